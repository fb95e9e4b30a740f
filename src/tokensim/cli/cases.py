"""``tokensim cases``: measured cases from the result files of load generators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli.options import Overrides

if TYPE_CHECKING:
    from tokensim.scenario.loading import Document
    from tokensim.validation.imports import Run

app = typer.Typer(help="Make measured cases.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def cases() -> None:
    """Make measured cases."""


@app.command("import")
def import_case(
    file: Annotated[Path, typer.Argument(help="A result file of vllm bench serve, AIPerf or GuideLLM.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the case.")],
    scenario: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Model, cluster and engine: a scenario (YAML).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Catalog id, or a config.json. [default: the file's]")
    ] = None,
    hardware: Annotated[str | None, typer.Option(metavar="ID", help="Catalog id, or a YAML file.")] = None,
    tensor_parallel_size: Annotated[
        int | None, typer.Option("--tensor-parallel-size", "-tp", metavar="N", help="Devices of an instance.")
    ] = None,
    set_: Overrides = None,
    max_in_flight: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The client's cap, where the file does not say it.")
    ] = None,
    run: Annotated[int | None, typer.Option(metavar="N", min=1, help="Which run of several, from 1.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="[default: the folder's]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a case.")] = False,
) -> None:
    """Make a case from a result file, for validate and calibrate.

    The file holds the requests and their times. What served them, you say: --model, --hardware and --set, or
    a scenario (its workload is left out). State the engine as it was started; its version decides which
    scheduling rules are simulated.
    """
    from tokensim.validation.imports import read_run, write_case

    found = read_run(file, run)
    document = _document(scenario, found, model, hardware, tensor_parallel_size, set_ or [])
    document.data.pop("workload", None)
    _check(document)
    title = name or output.resolve().name
    source = f"{file.name} ({found.tool})"
    files = write_case(
        output, found, document.data, name=title, source=source, max_in_flight=max_in_flight, force=force
    )
    left_out = f", {found.failed} left out" if found.failed else ""
    typer.echo(f"{found.tool}: {len(found.requests)} requests{left_out}")
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Case: {files[0].parent}")


def _document(
    scenario: Path | None,
    found: Run,
    model: str | None,
    hardware: str | None,
    tensor: int | None,
    overrides: list[str],
) -> Document:
    """What served the requests, as far as file and options say it."""
    from tokensim.errors import InputError
    from tokensim.scenario.loading import Document, read_document
    from tokensim.validation.case import from_folder

    document = read_document(scenario) if scenario else Document({}, "cases import")
    if model is not None:
        document.set(("model",), model, "--model")
    elif "model" not in document.data and found.model:
        document.set(("model",), found.model, "the result file")
    if "cluster" not in document.data:
        if hardware is None:
            raise InputError(
                "what hardware served it?", where="cases import", hint="--hardware ID, or --scenario FILE"
            )
        document.data["cluster"] = {"pools": [{"hardware": hardware}]}
    elif hardware is not None:
        document.set(("cluster", "pools", 0, "hardware"), hardware, "--hardware")
    if tensor is not None:
        document.set(("cluster", "pools", 0, "parallel", "tensor"), tensor, "--tensor-parallel-size")
    for override in overrides:
        document.override(override)
    document.data = from_folder(document.data, Path.cwd())
    return document


def _check(document: Document) -> None:
    """Refuse what is no scenario, before anything is written."""
    from tokensim.errors import InputError
    from tokensim.hardware import load_device
    from tokensim.model import load_model
    from tokensim.scenario.loading import Document

    stand_in = {
        "arrivals": {"process": "all-at-once"},
        "num_requests": 1,
        "input_tokens": 1,
        "output_tokens": 1,
    }
    whole = Document({**document.data, "workload": stand_in}, document.where, document.origins)
    checked = whole.check()
    try:
        load_model(checked.model, "model")
        for index, pool in enumerate(checked.cluster.pools):
            load_device(pool.hardware, f"cluster.pools[{index}].hardware")
    except InputError as error:
        raise whole.locate(error) from None
