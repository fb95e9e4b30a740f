"""Takes notes during a run, in flat typed arrays: one row a request, one row a run of equal steps.

Appending to an ``array`` is the cheapest thing that Python can do with a number that must be kept, and a million requests
take 100 bytes each. ``log`` hands the notes over as numpy columns.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import StepColumns
from tokensim.metrics.log import STATUSES, RequestColumns, RunLog, StepRows

if TYPE_CHECKING:
    from tokensim.workload.base import Workload

UNFINISHED, FINISHED, TRUNCATED, REJECTED = range(len(STATUSES))


class Recorder:
    """The notes of one run of ``workload``."""

    def __init__(self, workload: Workload) -> None:
        n = len(workload)
        self.workload = workload
        never = array("d", [float("nan")])
        self.arrival_s = never * n
        self.scheduled_s = never * n
        self.first_token_s = never * n
        self.finish_s = never * n
        zero = array("q", [0])
        self.output_tokens = zero * n
        self.cached_tokens = zero * n
        self.preemptions = zero * n
        self.recomputed_tokens = zero * n
        self.instance = array("q", [-1]) * n
        self.status = array("b", [UNFINISHED]) * n

        self.gap_s = array("d")
        self.gap_weight = array("q")

        self.step_instance = array("q")
        self.start_s = array("d")
        self.end_s = array("d")
        self.first_step_s = array("d")
        self.last_step_s = array("d")
        self.steps = array("q")
        self.decode = array("q")
        self.context = array("d")
        self.window_context = array("d")
        self.window_growth = array("d")
        self.samples = array("q")
        self.running = array("q")
        self.waiting = array("q")
        self.used_blocks = array("q")
        self.chunk_row = array("q")
        self.chunk_tokens = array("q")
        self.chunk_context = array("q")

    def gap(self, seconds: float, weight: int) -> None:
        """Correct the inter-token gaps that the step rows imply: see ``RunLog``."""
        self.gap_s.append(seconds)
        self.gap_weight.append(weight)

    def log(
        self, *, end_s: float, complete: bool, num_blocks: list[int], wall_s: float, cut_s: float | None
    ) -> RunLog:
        """Everything as columns. ``cut_s``: the run was interrupted then, so nothing later has happened yet."""
        rows = np.frombuffer(self.chunk_row, np.int64)
        tokens = np.frombuffer(self.chunk_tokens, np.int64)
        prefill = np.zeros(len(self.steps), np.int64)
        np.add.at(prefill, rows, tokens)
        workload = self.workload
        first = np.frombuffer(self.first_token_s, np.float64)
        if cut_s is not None:
            first = np.where(first <= cut_s, first, np.nan)
        return RunLog(
            requests=RequestColumns(
                intended_s=workload.arrival_s,
                arrival_s=np.frombuffer(self.arrival_s, np.float64),
                scheduled_s=np.frombuffer(self.scheduled_s, np.float64),
                first_token_s=first,
                finish_s=np.frombuffer(self.finish_s, np.float64),
                input_tokens=workload.input_tokens,
                requested_output_tokens=workload.output_tokens,
                output_tokens=np.frombuffer(self.output_tokens, np.int64),
                cached_tokens=np.frombuffer(self.cached_tokens, np.int64),
                preemptions=np.frombuffer(self.preemptions, np.int64),
                recomputed_tokens=np.frombuffer(self.recomputed_tokens, np.int64),
                instance=np.frombuffer(self.instance, np.int64),
                status=np.frombuffer(self.status, np.int8),
                names=workload.names,
            ),
            steps=StepRows(
                instance=np.frombuffer(self.step_instance, np.int64),
                start_s=np.frombuffer(self.start_s, np.float64),
                end_s=np.frombuffer(self.end_s, np.float64),
                first_step_s=np.frombuffer(self.first_step_s, np.float64),
                last_step_s=np.frombuffer(self.last_step_s, np.float64),
                running=np.frombuffer(self.running, np.int64),
                waiting=np.frombuffer(self.waiting, np.int64),
                used_blocks=np.frombuffer(self.used_blocks, np.int64),
                prefill_tokens=prefill,
                what=StepColumns(
                    steps=np.frombuffer(self.steps, np.int64),
                    decode=np.frombuffer(self.decode, np.int64),
                    context=np.frombuffer(self.context, np.float64),
                    window_context=np.frombuffer(self.window_context, np.float64),
                    window_growth=np.frombuffer(self.window_growth, np.float64),
                    samples=np.frombuffer(self.samples, np.int64),
                    chunk_row=rows,
                    chunk_tokens=tokens,
                    chunk_context=np.frombuffer(self.chunk_context, np.int64),
                ),
            ),
            gap_s=np.frombuffer(self.gap_s, np.float64),
            gap_weight=np.frombuffer(self.gap_weight, np.int64),
            end_s=end_s,
            complete=complete,
            num_blocks=num_blocks,
            wall_s=wall_s,
        )
