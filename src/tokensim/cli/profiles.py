"""``tokensim profiles``: the measured operator times there are, what is in them, and converting them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokensim.cost.tables.base import Profile
    from tokensim.cost.tables.find import Entry

app = typer.Typer(
    help="Measured operator times: list, show, convert.", no_args_is_help=True, rich_markup_mode=None
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
        rows.append((kind, f"{frame.height:,}", f"{low:,.1f}", f"{middle:,.1f}", f"{high:,.1f}"))
        missing = holes(kind, frame)
        if missing:
            notes.append(missing)
    table = columns(("kind", "rows", "min us", "median us", "max us"), rows)
    parts = ["\n".join(f"{name:<{width}}  {value}" for name, value in facts), table]
    if notes:
        parts.append("Notes\n" + "\n".join(f"  {note}" for note in notes))
    return "\n\n".join(parts)
