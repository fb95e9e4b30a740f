"""The shipped model: times of any operator on any GPU from a few coefficients, without measured tables."""

from __future__ import annotations

from tokensim.cost.builtin.source import Builtin

__all__ = ["Builtin"]
