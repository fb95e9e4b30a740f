"""What LoRA adapters add to a step: two small kernels for each adapted layer.

``shrink`` multiplies all rows by their adapters' A, ``expand`` by B and adds to the output (Punica's SGMV,
arXiv:2310.18547; vLLM's ``add_shrink`` and ``add_expand``). They read the weights of every adapter in the
batch, padded to the rank of the slots; between them lies a buffer in 32 bits. Each is priced by the roofline,
with the overhead of a kernel: with few rows the overhead is most of it (Punica's authors measured some 2 ms a
step for 7 layers of 32 on an A100, two kernels each, which is 4.5 µs a kernel). All rows of a step count,
also those of requests without an adapter, which the kernels' buffers hold too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.cost.work import compute_dtype
from tokensim.errors import InputError
from tokensim.hardware import Device
from tokensim.model.lora import WEIGHT_BYTES, AdapterLayer, adapter_bytes, adapter_layers
from tokensim.model.operators import Operator
from tokensim.scenario.lora import Lora

BUFFER_BYTES = 4
"""A number between the two kernels (float32)."""

ACTIVATION_BYTES = 2
"""A number of the layer's input and output."""

KERNELS = 2
"""Shrink and expand."""


class AdapterCost:
    """Seconds and work of the adapters' kernels in a step of one rank."""

    def __init__(self, layers: Sequence[AdapterLayer], rank: int, device: Device, dtype: str) -> None:
        self._layers = tuple(layers)
        self._rank = rank
        self._flop_s = 1.0 / (device.flops[dtype] * device.efficiency.gemm)
        self._byte_s = 1.0 / (device.memory_bandwidth_bytes_per_s * device.efficiency.memory)
        self._overhead_s = device.efficiency.kernel_overhead_s
        self._peaks_s = 1.0 / device.flops[dtype], 1.0 / device.memory_bandwidth_bytes_per_s
        self._known: dict[tuple[int, int], float] = {}

    def seconds(self, rows: int, adapters: int) -> float:
        """Of a step of ``rows`` tokens with so many different ``adapters``."""
        known = self._known.get((rows, adapters))
        if known is None:
            known = self._known[rows, adapters] = sum(
                layer.count
                * sum(
                    max(flops * self._flop_s, moved * self._byte_s) + self._overhead_s
                    for flops, moved in self._kernels(layer, rows, adapters)
                )
                for layer in self._layers
            )
        return known

    def peak_seconds(self, rows: int, adapters: int) -> tuple[float, float]:
        """(arithmetic, traffic) of such a step in seconds at the device's peaks."""
        flop_s, byte_s = self._peaks_s
        work = [
            (layer.count * flops, layer.count * moved)
            for layer in self._layers
            for flops, moved in self._kernels(layer, rows, adapters)
        ]
        return sum(flops for flops, _ in work) * flop_s, sum(moved for _, moved in work) * byte_s

    def work(self, rows: int, adapters: int) -> tuple[float, float]:
        """(FLOPs, bytes) of such a step."""
        compute_s, memory_s = self.peak_seconds(rows, adapters)
        flop_s, byte_s = self._peaks_s
        return compute_s / flop_s, memory_s / byte_s

    def _kernels(
        self, layer: AdapterLayer, rows: int, adapters: int
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """(FLOPs, bytes) of shrink and of expand, for one layer."""
        inner = layer.slices * self._rank
        buffer = rows * inner * BUFFER_BYTES
        shrink = (
            2.0 * rows * inner * layer.k,
            adapters * inner * layer.k * WEIGHT_BYTES + rows * layer.k * ACTIVATION_BYTES + buffer,
        )
        expand = (
            2.0 * rows * self._rank * layer.n,
            adapters * self._rank * layer.n * WEIGHT_BYTES + 2 * rows * layer.n * ACTIVATION_BYTES + buffer,
        )
        return shrink, expand


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """The adapters of one rank: ``layers`` that have them, slots for ``max_loras`` of ``rank`` that take
    ``slot_bytes``; places for ``max_cpu_loras`` in host memory; seconds to copy one from there, and to read
    one from disk."""

    layers: tuple[AdapterLayer, ...]
    rank: int
    max_loras: int
    max_cpu_loras: int
    slot_bytes: float
    copy_s: float
    read_s: float

    def cost(self, device: Device, activation_dtype: str) -> AdapterCost:
        """The price of their kernels on ``device``."""
        dtype = compute_dtype(device, activation_dtype, activation_dtype)
        return AdapterCost(self.layers, self.rank, device, dtype)


def plan_adapters(
    lora: Lora,
    operators: Sequence[Operator],
    whole: Sequence[Operator],
    host_bytes_per_s: float,
    where: str,
    lockstep: bool,
) -> AdapterPlan:
    """What ``lora`` means for one rank that runs ``operators``.

    ``whole`` are those of a single rank, which say what is read from disk; ``host_bytes_per_s`` is what the
    device's link to its host gives. Raises ``InputError`` at ``where``.
    """
    if lockstep:
        raise InputError(
            "adapters on data-parallel ranks that share experts are not simulated",
            where=where,
            hint="set parallel.data to 1, or leave engine.lora out",
        )
    at = f"{where}.target_modules"
    layers = tuple(adapter_layers(operators, lora.target_modules, at))
    own = lora.rank or lora.max_lora_rank
    full = adapter_bytes(adapter_layers(whole, lora.target_modules, at), own)
    return AdapterPlan(
        layers=layers,
        rank=lora.max_lora_rank,
        max_loras=lora.max_loras,
        max_cpu_loras=lora.max_cpu_loras or lora.max_loras,
        slot_bytes=lora.max_loras * adapter_bytes(layers, lora.max_lora_rank),
        copy_s=adapter_bytes(layers, own) / (lora.host_bandwidth or host_bytes_per_s),
        read_s=full / lora.disk_bandwidth,
    )
