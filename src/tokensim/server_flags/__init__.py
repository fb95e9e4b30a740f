"""Scenarios from the command lines that start serving engines: one table of flags an engine."""

from tokensim.server_flags.base import Apart, Dialect, Flag, Taken, Translation
from tokensim.server_flags.translate import DIALECTS, translate

__all__ = ["DIALECTS", "Apart", "Dialect", "Flag", "Taken", "Translation", "translate"]
