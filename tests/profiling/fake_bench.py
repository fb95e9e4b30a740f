"""A device whose kernels' times are a known function, on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tokensim.profiling.bench import Facts, Measurement, Rates, Unmeasurable
from tokensim.profiling.session import Estimates
from tokensim.profiling.shapes import Shape, work
from tokensim.profiling.timing import Policy

FLOPS, BYTES_S, LAUNCH_S = 1e12, 100e9, 2e-6
PEAKS = {"bfloat16": FLOPS, "float32": FLOPS / 4}
POLICY = Policy()


def facts(**changes: object) -> Facts:
    fields: dict[str, object] = {
        "slug": "fake-1",
        "name": "Fake One",
        "vendor": "nobody",
        "kind": "gpu",
        "architecture": "paper",
        "memory_bytes": 64e9,
        "cache_bytes": 1e6,
        "devices": 2,
        "tdp_w": 100.0,
        "tdp_source": "said so",
        "dtypes": ("float32", "bfloat16"),
        "lacking": {"fp8": "no units for it"},
        "kernels": {"collective": "nccl"},
        "provenance": {"driver": "1.2", "date": "2026-01-01"},
        "identity": "Fake One; driver 1.2",
        "version": "2.0",
    }
    return Facts(**{**fields, **changes})  # type: ignore[arg-type]


def roofline(shape: Shape) -> float:
    """Seconds: a launch, and the slower of arithmetic and traffic."""
    todo = work(shape)
    return LAUNCH_S + max(todo.flops / FLOPS, todo.bytes / BYTES_S)


class FakeBench:
    """A ``Bench``. Measuring a shape takes ``cost_s`` on its clock; ``refuse`` says which it does not take;
    after ``interrupt_after`` measurements comes Ctrl-C."""

    def __init__(
        self,
        seconds: Callable[[Shape], float] = roofline,
        *,
        cost_s: float = 0.1,
        refuse: Callable[[Shape], str] = lambda shape: "",
        interrupt_after: int | None = None,
        **changes: object,
    ) -> None:
        self.facts = facts(**changes)
        self.now_s = 0.0
        self.asked: list[Shape] = []
        self._seconds, self._cost_s, self._refuse = seconds, cost_s, refuse
        self._interrupt_after = interrupt_after

    def clock(self) -> float:
        return self.now_s

    def rates(self) -> Rates:
        return Rates(PEAKS, BYTES_S, LAUNCH_S, 5e-6, ("PCIe", 20e9, 8e-6), None)

    def measure(self, shape: Shape) -> Measurement:
        if self._interrupt_after is not None and len(self.asked) >= self._interrupt_after:
            raise KeyboardInterrupt
        self.asked.append(shape)
        self.now_s += self._cost_s
        if reason := self._refuse(shape):
            raise Unmeasurable(reason)
        return Measurement(self._seconds(shape), spread=0.01, noise=0.0, samples=9, cost_s=self._cost_s)

    def throttled(self) -> Mapping[str, int]:
        return {"software power cap": 3}

    def estimates(self) -> Estimates:
        return Estimates(self.rates(), POLICY, cold=True)
