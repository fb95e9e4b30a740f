"""The bench: from a shape to its calls, from the calls to a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from tokensim.profiling.bench import Facts, Measurement, Rates, Unmeasurable
from tokensim.profiling.kernels.arena import Arena
from tokensim.profiling.kernels.attention import attention_calls
from tokensim.profiling.kernels.clocks import Clocks
from tokensim.profiling.kernels.collectives import Ranks
from tokensim.profiling.kernels.elementwise import elementwise_calls
from tokensim.profiling.kernels.experts import expert_calls
from tokensim.profiling.kernels.facts import facts_of
from tokensim.profiling.kernels.gemm import gemm_calls
from tokensim.profiling.kernels.rates import measured_rates
from tokensim.profiling.kernels.runner import Call, Runner
from tokensim.profiling.shapes import Shape
from tokensim.profiling.timing import Policy, timed

Calls = Mapping[str, list[Call]]
"""Calls by the kernel that runs them."""


class TorchBench:
    """A ``Bench`` on one device of PyTorch's; see ``open_bench``."""

    def __init__(
        self, device: torch.device, *, cache: str, ranks: int, policy: Policy | None, slug: str | None
    ) -> None:
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")  # of features in beta
        self._device = device
        if device.type != "cpu":
            torch.cuda.set_device(device)
        self.policy = policy or Policy()
        self.facts: Facts = facts_of(device, ranks, slug)
        self.cache = cache
        self._runner, self._clocks = Runner(device), Clocks(device)
        size = self.facts.cache_bytes
        self._cold = Arena(device, size, cold=cache != "hot")
        self._hot = Arena(device, size, cold=False) if cache == "both" else None
        self._rates: Rates | None = None
        self._ranks: dict[int, Ranks] = {}
        self._chosen: dict[str, dict[str, int]] = {}

    def rates(self) -> Rates:
        """See ``Bench.rates``."""
        if self._rates is None:
            with torch.inference_mode():
                self._rates = measured_rates(self._device, self.facts, self._runner)
            self._free()
        return self._rates

    def measure(self, shape: Shape) -> Measurement:
        """See ``Bench.measure``."""
        try:
            if shape.kind == "collective":
                measured = self._collective(shape)
            else:
                with torch.inference_mode():
                    measured = self._timed(shape, self._cold)
                    if self._hot is not None:
                        hot = self._timed(shape, self._hot)
                        measured = replace(
                            measured, hot_seconds=hot.seconds, cost_s=measured.cost_s + hot.cost_s
                        )
        except (torch.OutOfMemoryError, MemoryError):
            self._free()
            raise Unmeasurable("out of memory") from None
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            self._free()
            said = str(error).strip().split("\n")[0][:120]
            raise Unmeasurable(f"{shape.kind}: {said or type(error).__name__}") from None
        return replace(measured, clock_mhz=self._clocks.now())

    def throttled(self) -> Mapping[str, int]:
        """See ``Bench.throttled``."""
        return dict(self._clocks.reasons)

    def told(self) -> dict[str, str]:
        """What is known once measuring is over: the fastest kernels, clocks, how calls were launched."""
        said = {"clocks": self._clocks.summary(), "caches": _CACHES[self.cache]}
        for kind, names in sorted(self._chosen.items()):
            said[f"kernel of {kind}"] = ", ".join(
                f"{name} ({count})" for name, count in sorted(names.items(), key=lambda pair: -pair[1])
            )
        if self._device.type != "cpu":
            said["launches"] = "CUDA graphs" + (
                f", {self._runner.eager} shapes one by one" if self._runner.eager else ""
            )
        return said

    def close(self) -> None:
        """End the processes of collectives and give memory back."""
        for ranks in self._ranks.values():
            ranks.close()
        self._ranks.clear()
        self._free()

    def _timed(self, shape: Shape, arena: Arena) -> Measurement:
        """The time by the fastest kernel: each has one warm and one timed row of calls to show itself."""
        calls = self._calls(shape, arena)
        samplers = {name: self._runner.sampler(row) for name, row in calls.items()}
        if len(samplers) > 1:
            name = min(samplers, key=lambda name: _glance(samplers[name], self.policy))
        else:
            (name,) = samplers
        if arena is self._cold:
            names = self._chosen.setdefault(shape.kind, {})
            names[name] = names.get(name, 0) + 1
        return timed(samplers[name], self.policy)

    def _calls(self, shape: Shape, arena: Arena) -> Calls:
        match shape.kind:
            case "gemm":
                kernel = self.facts.kernels.get(f"gemm {shape['dtype']}")
                if kernel is None:
                    raise Unmeasurable(f"{shape['dtype']}: not on this device")
                return {kernel: gemm_calls(shape, arena, self._device)}
            case "experts":
                return expert_calls(shape, arena, self._device)
            case "elementwise":
                return elementwise_calls(shape, arena, self._device)
            case _:
                return attention_calls(shape, arena, self._device)

    def _collective(self, shape: Shape) -> Measurement:
        ranks = shape["ranks"]
        if ranks > self.facts.devices:
            raise Unmeasurable(f"{ranks} ranks: there are {self.facts.devices} devices")
        if ranks not in self._ranks:
            backend = "gloo" if self._device.type == "cpu" else "nccl"  # ROCm's library has that name, too
            self._ranks[ranks] = Ranks(self._device.type, backend, ranks)
        group = self._ranks[ranks]
        return timed(lambda count: group.sample(shape, count), self.policy)

    def _free(self) -> None:
        self._cold.clear()
        if self._hot is not None:
            self._hot.clear()
        if self._device.type != "cpu":
            torch.cuda.empty_cache()


_CACHES = {
    "cold": "weights and KV from memory, activations as the operator before leaves them",
    "hot": "all operands in the cache where they fit",
    "both": "weights and KV from memory; hot_seconds: all operands in the cache where they fit",
}


def _glance(sample: Callable[[int], float], policy: Policy) -> float:
    """Seconds of a call, at a glance."""
    once = max(sample(1), 1e-9)
    count = max(1, min(16, round(policy.sample_s / once)))
    return sample(count) / count
