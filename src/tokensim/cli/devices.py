"""``tokensim devices``: the hardware catalog, or one device with the source of each number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokensim.hardware import Device


def devices(
    device: Annotated[str | None, typer.Argument(help="Catalog id or YAML file; without it, all.")] = None,
) -> None:
    """List the devices, or show one with the source of each number."""
    from tokensim.cli.columns import columns
    from tokensim.hardware import catalog_names, load_device

    if device is not None:
        typer.echo(_details(load_device(device, where="devices")))
        return
    rows = [_row(load_device(name)) for name in catalog_names()]
    titles = ("id", "memory GB", "bandwidth TB/s", "16-bit TFLOP/s", "TDP W", "USD/h")
    typer.echo(columns(titles, rows))


def _row(device: Device) -> tuple[str, ...]:
    sixteen = max(device.flops.get("bfloat16", 0.0), device.flops.get("float16", 0.0))
    return (
        device.id,
        f"{device.memory_bytes / 1e9:.1f}",
        f"{device.memory_bandwidth_bytes_per_s / 1e12:.2f}",
        f"{sixteen / 1e12:.0f}" if sixteen else "-",
        f"{device.tdp_w:.0f}",
        f"{device.price_per_hour_usd:.2f}",
    )


def _details(device: Device) -> str:
    """Every number of one device, and under it where the numbers come from."""
    links = (
        ("intra_node", device.intra_node),
        ("inter_node", device.inter_node),
        ("host_link", device.host_link),
    )
    facts = [
        ("id", device.id),
        ("name", device.name),
        ("kind", f"{device.kind}, {device.vendor} {device.architecture}"),
        ("memory", f"{device.memory_bytes / 2**30:.1f} GiB ({device.memory_bytes:.4g} bytes)"),
        ("memory_bandwidth", f"{device.memory_bandwidth_bytes_per_s / 1e9:,.0f} GB/s"),
        *((f"flops.{dtype}", f"{rate / 1e12:,.1f} TFLOP/s") for dtype, rate in device.flops.items()),
        *(
            (
                name,
                f"{link.name}, {link.bandwidth_bytes_per_s / 1e9:,.0f} GB/s, {link.latency_s * 1e6:.1f} us",
            )
            for name, link in links
        ),
        ("devices_per_node", str(device.devices_per_node)),
        ("tdp", f"{device.tdp_w:.0f} W, idle {device.idle_w:.0f} W"),
        ("price", f"{device.price_per_hour_usd:.2f} USD/h"),
        (
            "efficiency",
            f"GEMM {device.efficiency.gemm:.0%}, attention {device.efficiency.attention:.0%}, "
            f"memory {device.efficiency.memory:.0%}",
        ),
        (
            "draw",
            f"of TDP less idle power: busy {device.draw.busy:.0%}, compute {device.draw.compute:.0%}, "
            f"memory {device.draw.memory:.0%}, network {device.draw.network:.0%}",
        ),
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    sources = {**device.sources, "efficiency": device.efficiency.source, "draw": device.draw.source}
    return "\n".join([*lines, "", "Sources", *(f"  {name}: {source}" for name, source in sources.items())])
