"""Requests: arrival processes, lengths, and one reader a trace format."""

from __future__ import annotations

from tokensim.workload.base import Segments, Workload
from tokensim.workload.build import build_workload

__all__ = ["Segments", "Workload", "build_workload"]
