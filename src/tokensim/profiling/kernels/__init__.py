"""The bench with PyTorch: CUDA, ROCm (which PyTorch calls ``cuda`` as well) and CPU, by one path.

One module a family of operators makes the calls of a shape; ``runner`` times them. Where several kernels can
run a shape, the fastest counts, as an engine would choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tokensim.errors import InputError

if TYPE_CHECKING:
    from tokensim.profiling.kernels.bench import TorchBench
    from tokensim.profiling.timing import Policy

Cache = Literal["cold", "hot", "both"]
CACHES: tuple[Cache, ...] = ("cold", "hot", "both")
"""Whether weights and KV come from memory, as in a model of many layers, or from the device's cache;
``both``: cold, and the hot time in a column of its own."""


def torch_module() -> Any:
    """PyTorch; raises ``InputError`` where it is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError("measuring a device needs PyTorch", hint="pip install 'tokensim[profile]'") from None
    return torch


def open_bench(
    device: str | None = None,
    *,
    cache: Cache = "cold",
    ranks: int = 0,
    policy: Policy | None = None,
    slug: str | None = None,
) -> TorchBench:
    """The bench of ``device`` (``cpu``, ``cuda``, ``cuda:1``; default: the first GPU, else the CPU).

    ``ranks`` processes take part in collectives on a CPU (0: none are measured there). ``slug`` names the
    device in the files (default: from what it calls itself). Raises ``InputError`` for a device that is not
    there.
    """
    torch = torch_module()
    from tokensim.profiling.kernels.bench import TorchBench

    there = torch.cuda.is_available()
    name = device or ("cuda" if there else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise InputError(f"unknown device '{name}'", where="--device", hint="cpu, cuda or cuda:0")
    if kind == "cuda" and not there:
        raise InputError(
            "PyTorch finds no GPU here", where=f"--device {name}", hint="--device cpu measures the CPU"
        )
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if int(index or 0) >= count:
        raise InputError(
            f"there are {count} devices", where=f"--device {name}", hint=f"{kind}:0 is the first"
        )
    return TorchBench(torch.device(name), cache=cache, ranks=ranks, policy=policy, slug=slug)
