"""The bench: from a shape to its calls, from the calls to a time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch

from tokensim.profiling.bench import DeviceLost, Facts, Measurement, Rates, Unmeasurable
from tokensim.profiling.kernels.arena import Arena
from tokensim.profiling.kernels.attention import attention_calls
from tokensim.profiling.kernels.clocks import Clocks
from tokensim.profiling.kernels.collectives import Ranks
from tokensim.profiling.kernels.elementwise import elementwise_calls
from tokensim.profiling.kernels.experts import expert_calls
from tokensim.profiling.kernels.facts import facts_of
from tokensim.profiling.kernels.gemm import gemm_calls
from tokensim.profiling.kernels.rates import measured_rates
from tokensim.profiling.kernels.runner import Runner, Variants, first_line
from tokensim.profiling.shapes import Shape
from tokensim.profiling.timing import Policy, Sample, timed

GPU_SAMPLE_S = 1e-3
"""Least length of a sample on a GPU: what a launch of a graph adds is then a small part of it."""


class TorchBench:
    """A ``Bench`` on one device of PyTorch's; see ``open_bench``."""

    def __init__(
        self, device: torch.device, *, cache: str, ranks: int, policy: Policy | None, slug: str | None
    ) -> None:
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")  # of features in beta
        self._device = device
        if device.type != "cpu":
            torch.cuda.set_device(device)
        self.policy = policy or (Policy() if device.type == "cpu" else Policy(sample_s=GPU_SAMPLE_S))
        facts = facts_of(device, ranks, slug)
        self.facts: Facts = replace(facts, identity=f"{facts.identity}; operands {cache}")
        self.cache = cache
        self._runner, self._clocks = Runner(device), Clocks(device)
        size = self.facts.cache_bytes
        self._cold = Arena(device, size, cold=cache != "hot")
        self._hot = Arena(device, size, cold=False) if cache == "both" else None
        self._rates: Rates | None = None
        self._ranks: dict[int, Ranks] = {}
        self._broken: dict[tuple[int, str], str] = {}  # collectives that failed among so many ranks, and why
        self._chosen: dict[str, dict[str, int]] = {}
        self._failed: dict[str, str] = {}

    def rates(self) -> Rates:
        """See ``Bench.rates``."""
        if self._rates is None:
            with torch.inference_mode():
                self._rates = measured_rates(self._device, self.facts, self._runner)
            self._free()
        return self._rates

    def measure(self, shape: Shape) -> Measurement:
        """See ``Bench.measure``."""
        for _ in range(2):  # once more without what shapes before this one needed
            try:
                return self._measured(shape)
            except (torch.OutOfMemoryError, MemoryError):
                pass
            except (Unmeasurable, DeviceLost):
                raise
            except Exception as error:  # whatever a kernel that does not take the shape raises
                self._runner.check()
                self._free()
                raise Unmeasurable(f"{shape.kind}: {first_line(error)}") from None
            self._free()  # not while the error is handled, which holds on to what there was
        raise Unmeasurable("out of memory")

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
        if self._failed:
            said["kernels that failed"] = "; ".join(f"{name}: {why}" for name, why in self._failed.items())
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

    def _measured(self, shape: Shape) -> Measurement:
        if shape.kind == "collective":
            return replace(self._collective(shape), clock_mhz=self._clocks.now())
        with torch.inference_mode():
            measured = self._timed(shape, self._cold)
            if self._hot is None:
                return measured
            hot = self._timed(shape, self._hot)
        return replace(measured, hot_seconds=hot.seconds, cost_s=measured.cost_s + hot.cost_s)

    def _timed(self, shape: Shape, arena: Arena) -> Measurement:
        """The time by the fastest kernel."""
        name, sample = self._fastest(shape, self._variants(shape, arena))
        if arena is self._cold:
            names = self._chosen.setdefault(shape.kind, {})
            names[name] = names.get(name, 0) + 1
        measured = timed(sample, self.policy)
        if self._device.type == "cpu":
            return replace(measured, clock_mhz=self._clocks.now())
        busy = max(1, round(self.policy.sample_s / measured.seconds))  # clocks fall as soon as nothing runs
        return replace(measured, clock_mhz=self._clocks.now(lambda: sample(busy)))

    def _fastest(self, shape: Shape, variants: Variants) -> tuple[str, Sample]:
        """The kernel that is fastest at a glance, and its sampler; one that fails is left out and told of."""
        if len(variants) == 1:
            ((name, make),) = variants.items()
            return name, self._runner.sampler(make())
        fastest: tuple[float, str, Sample] | None = None
        failure: Exception | None = None
        for name, make in variants.items():
            try:
                sample = self._runner.sampler(make())
                once = _glance(sample, self.policy)
            except DeviceLost:
                raise
            except Exception as error:
                self._runner.check()
                failure = error.with_traceback(None)  # which would keep the operands
                self._failed.setdefault(f"{shape.kind}, {name}", first_line(error))
                continue
            if fastest is None or once < fastest[0]:
                fastest = once, name, sample
        if fastest is None:
            raise failure or Unmeasurable(f"{shape.kind}: there is no kernel for it")
        return fastest[1:]

    def _variants(self, shape: Shape, arena: Arena) -> Variants:
        match shape.kind:
            case "gemm":
                kernel = self.facts.kernels.get(f"gemm {shape['dtype']}")
                if kernel is None:
                    raise Unmeasurable(f"{shape['dtype']}: not on this device")
                return {kernel: lambda: gemm_calls(shape, arena, self._device)}
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
        which = ranks, shape["collective"]
        if which in self._broken:
            raise Unmeasurable(self._broken[which])
        try:
            if ranks not in self._ranks:
                backend = "gloo" if self._device.type == "cpu" else "nccl"  # so is ROCm's called, too
                self._ranks[ranks] = Ranks(self._device.type, backend, ranks)
            group = self._ranks[ranks]
            return timed(lambda count: group.sample(shape, count), self.policy)
        except (Unmeasurable, OSError) as error:  # others may go on, among new processes
            self._broken[which] = f"{shape['collective']} among {ranks} ranks: {first_line(error)}"
            if (left := self._ranks.pop(ranks, None)) is not None:
                left.close()
            raise Unmeasurable(self._broken[which]) from None

    def _free(self) -> None:
        self._cold.clear()
        if self._hot is not None:
            self._hot.clear()
        if self._device.type != "cpu":
            with contextlib.suppress(RuntimeError):  # of a device that is lost
                torch.cuda.empty_cache()


_CACHES = {
    "cold": "weights and KV from memory, activations as the operator before leaves them",
    "hot": "all operands in the cache where they fit",
    "both": "weights and KV from memory; hot_seconds: all operands in the cache where they fit",
}


def _glance(sample: Sample, policy: Policy) -> float:
    """Seconds of a call, at a glance."""
    once = max(sample(1), 1e-9)
    count = max(1, min(16, round(policy.sample_s / once)))
    return sample(count) / count
