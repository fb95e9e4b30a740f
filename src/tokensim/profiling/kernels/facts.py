"""What a device says of itself, as PyTorch and the system know it."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tokensim.profiling.bench import Facts
from tokensim.profiling.kernels.attention import varlen_kernels
from tokensim.profiling.kernels.clocks import nvidia
from tokensim.profiling.kernels.gemm import KERNELS, formats_of

ARCHITECTURES = {
    (7, 0): "volta",
    (7, 5): "turing",
    (8, 0): "ampere",
    (8, 6): "ampere",
    (8, 9): "ada",
    (9, 0): "hopper",
    (10, 0): "blackwell",
    (10, 3): "blackwell",
    (12, 0): "blackwell",
}
"""Names of compute capabilities (NVIDIA, "CUDA GPU Compute Capability")."""

MEMORY_SIDE_CACHE = {"gfx940": 256, "gfx941": 256, "gfx942": 256, "gfx950": 256, "gfx1100": 96}
"""MiB of the cache before the memory of AMD's devices, larger than the L2 that they report (AMD CDNA 3 and
CDNA 4 white papers: 256 MB of Infinity Cache; Radeon RX 7900 XTX product page: 96 MB)."""

CORE_W = 6.25
"""Power of a core of a server's CPU: 350 W for 56 (Intel Xeon Platinum 8480+ product page, 2023)."""

CPU_CACHE = 32 << 20
"""Last-level cache of a CPU whose system does not tell: a usual desktop's."""


IDENTIFYING = ("driver", "threads", "vllm", "flash-attn", "flashinfer-python")
"""What measurements of one store have in common, beside the device, PyTorch and its runtime."""


def facts_of(device: torch.device, ranks: int, slug: str | None) -> Facts:
    """The facts; ``ranks`` processes stand for devices on a CPU. ``slug`` is the name in the files."""
    dtypes, lacking = formats_of(device)
    kernels = {f"gemm {name}": KERNELS[name] for name in dtypes}
    kernels["collective"] = ("rccl" if torch.version.hip else "nccl") if device.type != "cpu" else "gloo"
    varlen = varlen_kernels(device)
    if varlen:
        kernels["mixed_attention"] = " or ".join(varlen)
    host = _cpu_name()
    provenance = {
        "torch": str(torch.__version__),
        "host": f"{host}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **{name: found for name in ("vllm", "flash-attn", "flashinfer-python") if (found := _version(name))},
    }
    on_cpu = device.type == "cpu"
    facts = _of_cpu(ranks, host, provenance) if on_cpu else _of_gpu(device, provenance)
    name, vendor, architecture, memory, cache, devices, tdp, tdp_source = facts
    identity = [name, f"PyTorch {provenance['torch']}", provenance.get("runtime", "")]
    identity += [f"{key} {provenance[key]}" for key in IDENTIFYING if key in provenance]
    return Facts(
        slug=slug or slugged(name),
        name=name,
        vendor=vendor,
        kind="cpu" if device.type == "cpu" else "gpu",
        architecture=architecture,
        memory_bytes=memory,
        cache_bytes=cache,
        devices=devices,
        tdp_w=tdp,
        tdp_source=tdp_source,
        dtypes=tuple(name for name in dtypes if name != "int8"),
        lacking=lacking,
        kernels=kernels,
        provenance=provenance,
        identity="; ".join(part for part in identity if part),
        version=str(torch.__version__).split("+")[0],
    )


def slugged(name: str) -> str:
    """``name`` as part of a file's name: lower case, with dashes."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")


_Device = tuple[str, str, str, float, float, int, float, str]


def _of_cpu(ranks: int, host: str, provenance: dict[str, str]) -> _Device:
    cores = os.cpu_count() or 1
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    provenance["threads"] = str(torch.get_num_threads())
    provenance["capability"] = torch.backends.cpu.get_cpu_capability()
    vendor = "AMD" if "AMD" in host else "Intel" if "Intel" in host else host.split()[0]
    source = f"{CORE_W} W a core, that of a server's CPU (Intel Xeon Platinum 8480+: 350 W for 56)"
    cache = _cpu_cache()
    provenance["cache"] = f"{cache / 2**20:.0f} MiB"
    name = f"{host}, {cores} cores"
    return name, vendor, platform.machine(), memory, cache, max(1, ranks), CORE_W * cores, source


def _of_gpu(device: torch.device, provenance: dict[str, str]) -> _Device:
    properties = torch.cuda.get_device_properties(device)
    hip = bool(torch.version.hip)
    provenance["runtime"] = f"ROCm {torch.version.hip}" if hip else f"CUDA {torch.version.cuda}"
    if hip:
        architecture = str(properties.gcnArchName).split(":")[0]
    else:
        capability = (properties.major, properties.minor)
        architecture = ARCHITECTURES.get(capability, f"sm{properties.major}{properties.minor}")
    answer = None if hip else nvidia(device, "driver_version", "enforced.power.limit", "clocks.max.sm")
    tdp, source = 0.0, ""
    if answer is not None:
        provenance["driver"] = answer[0]
        provenance["clocks.max.sm"] = f"{answer[2]} MHz"
        try:
            tdp, source = float(answer[1]), "power limit that nvidia-smi reports"
        except ValueError:
            tdp = 0.0
    cache = float(getattr(properties, "L2_cache_size", 0) or 64 << 20)
    if hip:
        cache = max(cache, float(MEMORY_SIDE_CACHE.get(architecture, 0) << 20))
        if driver := _amdgpu_version():
            provenance["driver"] = driver
    provenance["cache"] = f"{cache / 2**20:.0f} MiB"
    return (
        str(properties.name),
        "AMD" if hip else "NVIDIA",
        architecture,
        float(properties.total_memory),
        cache,
        torch.cuda.device_count(),
        tdp,
        source,
    )


def _amdgpu_version() -> str:
    """Of the kernel module, where it is not the kernel's own."""
    try:
        return Path("/sys/module/amdgpu/version").read_text("utf-8").strip()
    except OSError:
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    found = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return re.sub(r"\((R|TM)\)", "", found) or platform.processor() or platform.machine()


def _cpu_cache() -> float:
    """Bytes of the largest cache of the first core."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = file.read_text("utf-8").strip()
            sizes.append(float(text[:-1]) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[-1]])
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return max(sizes, default=float(CPU_CACHE))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
