"""A run of five requests on two instances, written by hand, small enough to check every figure on paper.

Requests (seconds): 0 is plain; 1 was held back, hit the prefix cache and was preempted; 2 has one output
token; 3 is rejected; 4 is cut short at the context length. Steps: a prefill, a run of four equal decodes
and a run of two that grows from 0.2 to 0.3 on instance 0 (100 blocks); a prefill and eight equal decodes on
instance 1 (50 blocks).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.cost.base import Activity, OperatorTime, StepColumns
from tokensim.hardware import Draw
from tokensim.metrics.energy import InstanceFacts
from tokensim.metrics.log import RequestColumns, RunLog, StepRows
from tokensim.metrics.pool_time import pool_operators
from tokensim.metrics.summary import Summary, summarize
from tokensim.report.header import Header
from tokensim.report.series.run import Roof, RunData, RunFacts, run_data

NAN = float("nan")


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


class FakeCost:
    """Prices a step at 3 s of one compute-bound GEMM and 1 s of attention, half of it memory-bound."""

    window = None
    needs_longest = False

    def __init__(self) -> None:
        self.asked: list[StepColumns] = []

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        return 1.0, 0.0, 1 << 60

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        return 4.0

    def compute_time(self, tokens: int) -> float:
        return 0.0

    def activity(self, steps: StepColumns) -> Activity:
        """Half of the peak of arithmetic, a quarter of that of traffic, an eighth of the time exchanges;
        rows with chunks are prefill to three quarters."""
        chunks = np.bincount(steps.chunk_row, minlength=len(steps.steps)) > 0
        s = steps.seconds
        return Activity(s / 2, s / 4, s / 8, np.where(chunks, 0.75, 0.0))

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        self.asked.append(steps)
        n = float(steps.steps.sum())
        return [
            OperatorTime("qkv", "gemm", 3 * n, 30 * n, 10 * n, {"compute": 3 * n}, "roofline"),
            OperatorTime(
                "attention", "attention", n, 2 * n, 5 * n, {"memory": n / 2, "compute": n / 2}, "roofline"
            ),
        ]


def request_columns(**changes: object) -> RequestColumns:
    columns: dict[str, object] = {
        "intended_s": floats(0.0, 0.05, 0.5, 0.6, 1.0),
        "arrival_s": floats(0.0, 0.1, 0.5, 0.6, 1.0),
        "scheduled_s": floats(0.0, 0.2, 0.7, NAN, 1.0),
        "first_token_s": floats(0.1, 0.3, 1.0, NAN, 1.2),
        "finish_s": floats(0.5, 0.7, 1.0, NAN, 2.0),
        "first_delivery_s": floats(0.1, 0.3, 1.0, NAN, 1.2),
        "last_delivery_s": floats(0.5, 0.7, 1.0, NAN, 2.0),
        "input_tokens": ints(100, 200, 50, 9999, 300),
        "requested_output_tokens": ints(5, 3, 1, 10, 20),
        "output_tokens": ints(5, 3, 1, 0, 9),
        "cached_tokens": ints(0, 64, 0, 0, 1),
        "preemptions": ints(0, 2, 0, 0, 0),
        "recomputed_tokens": ints(0, 32, 0, 0, 0),
        "instance": ints(0, 0, 0, -1, 1),
        "status": np.array([1, 1, 1, 3, 2], dtype=np.int8),
        "names": None,
    }
    return RequestColumns(**{**columns, **changes})  # type: ignore[arg-type]


def step_columns(**changes: object) -> StepColumns:
    columns: dict[str, object] = {
        "steps": ints(1, 4, 2, 1, 8),
        "decode": ints(0, 1, 2, 0, 1),
        "context": floats(0, 101, 310, 0, 301),
        "window_context": floats(0, 101, 310, 0, 301),
        "window_growth": floats(0, 1, 2, 0, 1),
        "longest": floats(0, 0, 0, 0, 0),
        "clock_share": floats(0, 0, 0, 0, 0),
        "seconds": floats(0.1, 0.4, 0.5, 0.2, 0.8),
        "samples": ints(1, 1, 2, 1, 1),
        "chunk_row": ints(0, 3, 3),
        "chunk_tokens": ints(100, 200, 100),
        "chunk_context": ints(0, 0, 64),
    }
    return StepColumns(**{**columns, **changes})  # type: ignore[arg-type]


def step_rows(**changes: object) -> StepRows:
    columns: dict[str, object] = {
        "instance": ints(0, 0, 0, 1, 1),
        "start_s": floats(0.0, 0.1, 0.5, 1.0, 1.2),
        "end_s": floats(0.1, 0.5, 1.0, 1.2, 2.0),
        "first_step_s": floats(0.1, 0.1, 0.2, 0.2, 0.1),
        "last_step_s": floats(0.1, 0.1, 0.3, 0.2, 0.1),
        "running": ints(1, 2, 3, 1, 1),
        "waiting": ints(0, 1, 2, 0, 0),
        "used_blocks": ints(10, 20, 40, 5, 10),
        "first_blocks": ints(10, 20, 40, 5, 10),
        "waited_s": floats(0.0, 0.4, 1.0, 0.0, 0.0),
        "prefill_tokens": ints(100, 0, 0, 300, 0),
        "what": step_columns(),
    }
    return StepRows(**{**columns, **changes})  # type: ignore[arg-type]


def run_log(**changes: object) -> RunLog:
    fields: dict[str, object] = {
        "requests": request_columns(),
        "steps": step_rows(),
        "gap_s": floats(0.5, 0.3),
        "gap_weight": ints(1, -1),
        "end_s": 2.0,
        "complete": True,
        "num_blocks": [100, 50],
        "wall_s": 0.001,
    }
    return RunLog(**{**fields, **changes})  # type: ignore[arg-type]


def empty_log() -> RunLog:
    """A run that was interrupted before the first request was sent."""
    none, zero = np.full(2, NAN), np.zeros(2, dtype=np.int64)
    no_int, no_float = ints(), floats()
    return RunLog(
        requests=RequestColumns(
            **dict.fromkeys(("arrival_s", "scheduled_s", "first_token_s", "finish_s"), none),
            **dict.fromkeys(("first_delivery_s", "last_delivery_s"), none),
            **dict.fromkeys(("output_tokens", "cached_tokens", "preemptions", "recomputed_tokens"), zero),
            intended_s=floats(1.0, 2.0),
            input_tokens=ints(10, 10),
            requested_output_tokens=ints(5, 5),
            instance=ints(-1, -1),
            status=np.zeros(2, dtype=np.int8),
            names=None,
        ),
        steps=StepRows(
            **dict.fromkeys(("start_s", "end_s", "first_step_s", "last_step_s", "waited_s"), no_float),
            **dict.fromkeys(("instance", "running", "waiting", "prefill_tokens"), no_int),
            **dict.fromkeys(("used_blocks", "first_blocks"), no_int),
            what=StepColumns(
                **dict.fromkeys(
                    ("context", "window_context", "window_growth", "longest", "clock_share", "seconds"),
                    no_float,
                ),
                **dict.fromkeys(("steps", "decode", "samples"), no_int),
                **dict.fromkeys(("chunk_row", "chunk_tokens", "chunk_context"), no_int),
            ),
        ),
        gap_s=no_float,
        gap_weight=no_int,
        end_s=0.0,
        complete=False,
        num_blocks=[100],
        wall_s=0.0,
    )


def facts(*, cost: FakeCost | None = None, instances: int = 2) -> list[InstanceFacts]:
    """Instances of two devices at 9 dollars an hour, 700 W at most and 100 W idle, that share one cost.

    While busy each device draws 100 + 600 · (0.1 + 0.5/2 + 0.4/4 + 0.4/8) = 400 W.
    """
    shared = cost or FakeCost()
    draw = Draw(busy=0.1, compute=0.5, memory=0.4, network=0.4, source="made up")
    return [InstanceFacts(shared, 2, 9.0, 700.0, 100.0, draw, f"pool-{i}") for i in range(instances)]


def run_facts(log: RunLog | None = None) -> RunFacts:
    log = log or run_log()
    size = len(log.num_blocks)
    return RunFacts(
        header=Header("Five requests", (("model", "tiny"), ("cluster", "2 x paper"))),
        instances=tuple(f"pool-{i}-0" for i in range(size)),
        pools=tuple(f"pool-{i}" for i in range(size)),
        roofs=(Roof("pool-0", "paper", "bfloat16", 100.0, 10.0),),
        operators=tuple(pool_operators(log.steps, facts(instances=size))),
    )


def run_data_of(log: RunLog | None = None, **kwargs: object) -> RunData:
    log = log or run_log()
    return run_data(log, summary(log, **kwargs), run_facts(log), "model: tiny\n")


def summary(log: RunLog | None = None, **kwargs: object) -> Summary:
    log = log or run_log()
    return summarize(log, facts(instances=len(log.num_blocks)), **kwargs)  # type: ignore[arg-type]
