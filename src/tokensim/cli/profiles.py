"""``tokensim profiles``: the measured operator times there are, what is in them, converting and comparing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

    from tokensim.cost.tables.base import Profile
    from tokensim.cost.tables.find import Entry

app = typer.Typer(
    help="Measured operator times: list, show, convert, compare.", no_args_is_help=True, rich_markup_mode=None
)

SHOWN_AT_ONCE = 8
"""More profiles than this do not fit a screen: `show` asks for a device or an engine."""

Source = Annotated[
    str,
    typer.Argument(
        help="aiconfigurator (the installed package), or a file or folder: of `profiles convert`, "
        "aiconfigurator-core, LLMServingSim or Vidur."
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="ID", help="Only this device: an id, or the source's name.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="Only this engine: vllm, sglang, trtllm ...")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="ID", help="Only this model, where profiles are of one.")
]
VersionOption = Annotated[
    str,
    typer.Option(
        "--version",
        metavar="VERSION",
        help="The engine's version: the nearest measured one is taken. [default: newest]",
    ),
]


@app.command("list")
def list_profiles(
    source: Source = "aiconfigurator",
    device: DeviceOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
) -> None:
    """List the measured profiles of a source."""
    from tokensim.cli.columns import columns
    from tokensim.cost.tables.find import device_id, list_tables, narrowed

    ids: dict[str, str] = {}
    rows = []
    for entry in narrowed(list_tables(source), device, engine, model):
        if entry.device not in ids:
            ids[entry.device] = device_id(entry) or "-"
        rows.append(
            (
                ids[entry.device],
                entry.device,
                entry.engine,
                ", ".join(entry.versions) or "-",
                entry.model or "any",
                entry.dtype or "any",
                str(entry.tensor or "any"),
            )
        )
    typer.echo(columns(("device", "its name there", "engine", "versions", "model", "dtype", "TP"), rows))


@app.command("show")
def show(
    source: Source,
    device: DeviceOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
    version: VersionOption = "",
) -> None:
    """Show what is in the profiles of a source: tables, ranges, holes, provenance."""
    from tokensim.cost.tables.find import device_id, list_tables, narrowed
    from tokensim.errors import InputError

    entries = narrowed(list_tables(source), device, engine, model)
    if len(entries) > SHOWN_AT_ONCE:
        raise InputError(
            f"{len(entries)} profiles", where=source, hint="choose with --device, --engine or --model"
        )
    typer.echo("\n\n".join(_details(entry.read(version, device=device_id(entry))) for entry in entries))


@app.command("convert")
def convert(
    source: Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the files; made if absent.")
    ],
    device: DeviceOption = None,
    engine: EngineOption = None,
    model: ModelOption = None,
    version: VersionOption = "",
) -> None:
    """Write measured tables in our own format: one parquet file a device, engine and dtype."""
    from tokensim.cost.tables.find import device_id, list_tables, narrowed
    from tokensim.cost.tables.native import merged, write_profile

    groups: dict[tuple[str, str], list[Entry]] = {}
    ids: dict[str, str] = {}
    for entry in narrowed(list_tables(source), device, engine, model):
        if entry.device not in ids:
            ids[entry.device] = device_id(entry) or entry.device
        groups.setdefault((ids[entry.device], entry.engine), []).append(entry)
    for (name, _), entries in groups.items():
        profile = merged([entry.read(version, device=name) for entry in entries])
        for path in write_profile(profile, output):
            typer.echo(f"{path} ({path.stat().st_size / 1e3:,.0f} kB)")
        for note in profile.notes:
            typer.echo(f"  {note}")


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="aiconfigurator, or a file or folder of measured tables.")],
    second: Annotated[str, typer.Argument(help="The same.")],
    hardware: Annotated[
        str | None,
        typer.Option("--hardware", metavar="ID", help="Their device. [default: that of their device.yaml]"),
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--engine", metavar="NAME", help="Of tables that have several: vllm, sglang, trtllm."),
    ] = "vllm",
    version: VersionOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two sets of tables: how much longer SECOND says that what FIRST measured takes."""
    import json
    from dataclasses import asdict
    from math import isnan

    from tokensim.cli.columns import columns
    from tokensim.cost.base import Setting
    from tokensim.profiling.compare import compare as differences
    from tokensim.profiling.compare import device_of, profiles_of

    setting = Setting(device_of((first, second), hardware), "", engine=engine, version=version)
    pair = profiles_of(first, setting), profiles_of(second, setting)
    found = differences(pair[0], pair[1], setting)
    if as_json:
        plain = [{k: None if v != v else v for k, v in asdict(row).items()} for row in found]
        typer.echo(json.dumps(plain, indent=2))
        return
    for source, profiles in zip((first, second), pair, strict=True):
        shown = "; ".join(f"{p.device} {p.engine} {p.version}".strip() for p in profiles)
        typer.echo(f"{source}: {shown}")
    rows = [
        (
            row.kind,
            row.what,
            f"{row.compared:,} of {row.shapes:,}",
            *("-" if isnan(x) else f"{x:+.1%}" for x in (row.median, row.low, row.high)),
        )
        for row in found
    ]
    typer.echo(columns(("kind", "of", "shapes compared", "median", "10th pct", "90th pct"), rows))


def _details(profile: Profile) -> str:
    """One profile for people."""
    from tokensim.cli.columns import columns
    from tokensim.cost.tables.base import holes

    facts = [
        ("device", profile.device),
        ("engine", f"{profile.engine} {profile.version}".strip()),
        ("source", profile.source),
        *profile.provenance.items(),
    ]
    width = max(len(name) for name, _ in facts)
    rows = []
    notes = list(profile.notes)
    for kind, frame in profile.tables.items():
        times = frame["seconds"]
        low, middle, high = (1e6 * float(x) for x in (times.min(), times.median(), times.max()))  # type: ignore[arg-type]
        rows.append(
            (kind, f"{frame.height:,}", f"{low:,.1f}", f"{middle:,.1f}", f"{high:,.1f}", *_spread(frame))
        )
        missing = holes(kind, frame)
        if missing:
            notes.append(missing)
    titles = ("kind", "rows", "min us", "median us", "max us", "spread", "90th pct")
    told = any(row[-1] for row in rows)
    table = columns(titles, rows) if told else columns(titles[:-2], [row[:-2] for row in rows])
    parts = ["\n".join(f"{name:<{width}}  {value}" for name, value in facts), table]
    if notes:
        parts.append("Notes\n" + "\n".join(f"  {note}" for note in notes))
    return "\n\n".join(parts)


def _spread(frame: pl.DataFrame) -> tuple[str, str]:
    """The median and the 90th percentile of the relative spread of repeats, where it is known."""
    if "spread" not in frame.columns:
        return "", ""
    return tuple(f"{float(frame['spread'].quantile(q) or 0.0):.1%}" for q in (0.5, 0.9))  # type: ignore[return-value]
