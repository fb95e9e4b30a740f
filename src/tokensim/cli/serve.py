"""``tokensim serve``: the simulated cluster as a live endpoint, with OpenAI's API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokensim.cli.options import Overrides, Plugins, load_plugins

if TYPE_CHECKING:
    from tokensim.cli.folder import OutputFolder
    from tokensim.scenario.loading import Document
    from tokensim.serve.server import Endpoint

KEY_VARIABLE = "TOKENSIM_API_KEY"

NO_WORKLOAD = {
    "arrivals": {"process": "all-at-once"},
    "input_tokens": {"distribution": "fixed", "value": 1},
    "output_tokens": {"distribution": "fixed", "value": 1},
    "num_requests": 1,
}
"""What a scenario without a workload is checked with; nothing of it is used."""

LARGEST_SCALE = 1e6


def serve(
    scenario: Annotated[Path, typer.Argument(help="A scenario (YAML); its workload is not sent.")],
    set_: Overrides = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Its port; 0: any.")] = 8000,
    time_scale: Annotated[float, typer.Option(metavar="X", help="Simulated seconds in a real one.")] = 1.0,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help=f"Wanted as a bearer token. [default: ${KEY_VARIABLE}, if set]"),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model's tokenizer.json. [default: a rule of thumb]"),
    ] = None,
    served_model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients call the model. [default: its id]")
    ] = None,
    early_stops: Annotated[
        bool,
        typer.Option("--early-stops", help="Answers may end early, with the lengths of the workload."),
    ] = False,
    max_streams: Annotated[int, typer.Option(min=1, metavar="N", help="Answers at a time at most.")] = 4096,
    max_request_bytes: Annotated[
        int, typer.Option(min=1024, metavar="N", help="Of a request's body at most.")
    ] = 32 << 20,
    admin: Annotated[bool, typer.Option("--admin", help="Serve /admin: faults on demand.")] = False,
    drain: Annotated[
        str, typer.Option(metavar="TIME", help="How long answers may go on after SIGTERM or Ctrl-C.")
    ] = "30s",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Leave the files of a run here in the end."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that holds other files.")
    ] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line a request, on stdout.")] = False,
    plugin: Plugins = None,
) -> None:
    """Serve a scenario as a live endpoint until SIGTERM or Ctrl-C.

    /v1/completions, /v1/chat/completions, /v1/models, /health, /version and /metrics, as vLLM has them. The
    first signal lets answers end, a second one stops at once.
    """
    from tokensim.cli.folder import prepare_folder

    load_plugins(plugin)
    _check_packages()
    document = _document(scenario, set_ or [])
    has_workload = "workload" in document.data
    if not has_workload:
        document.set(("workload",), NO_WORKLOAD, "default")
    checked = document.check()
    _check_scale(time_scale)
    target = prepare_folder(output, force=force) if output else None
    from tokensim.errors import InputError
    from tokensim.serve.app import Rules
    from tokensim.serve.server import Endpoint, Options, run_server

    options = Options(
        host,
        port,
        time_scale,
        Rules(api_key or os.environ.get(KEY_VARIABLE) or None, max_streams, max_request_bytes, admin),
        tokenizer,
        served_model_name,
        early_stops,
        target is not None,
        _seconds(drain),
        access_log,
    )
    try:
        endpoint = Endpoint(checked, options, has_workload=has_workload)
    except InputError as error:
        if target:
            target.withdraw()
        raise document.locate(error) from None

    def ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        speed = "" if time_scale == 1.0 else f", {time_scale:g} times as fast as real"
        typer.echo(f"Serving {next(iter(endpoint.models))} at http://{shown}:{port}/v1{speed}")

    try:
        run_server(endpoint, ready, lambda: _deliver(endpoint, target))
    except InputError:
        if target:
            target.withdraw()
        raise


def _document(scenario: Path, overrides: list[str]) -> Document:
    from tokensim.scenario.loading import read_document

    document = read_document(scenario)
    for override in overrides:
        document.override(override)
    return document


def _check_packages() -> None:
    """Refuse to start without the extra ``serve``."""
    from importlib.util import find_spec

    from tokensim.errors import InputError

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise InputError(
                f"the package '{package}' is not installed", hint="pip install 'tokensim[serve]'"
            )


def _check_scale(time_scale: float) -> None:
    from tokensim.errors import InputError

    if not 0.0 < time_scale <= LARGEST_SCALE:
        raise InputError(
            f"{time_scale:g} is no time scale",
            where="--time-scale",
            hint=f"above 0, up to {LARGEST_SCALE:g}; 10: ten times as fast as real",
        )


def _seconds(text: str) -> float:
    from tokensim.errors import InputError
    from tokensim.scenario.units import parse_duration

    try:
        value: Any = parse_duration(text)
        seconds = float(value)
    except ValueError as error:
        raise InputError(str(error), where="--drain", hint="e.g. 30s") from None
    if not 0.0 <= seconds < 1e9:
        raise InputError(f"{text!r} is no time to wait", where="--drain", hint="e.g. 30s")
    return seconds


def _deliver(endpoint: Endpoint, target: OutputFolder | None) -> None:
    """Say how late tokens were, and write the run."""
    late = endpoint.pacer.lateness
    if late.count:
        typer.echo(
            f"{late.count:,} writes; late by {1e3 * late.quantile(0.5):.1f} ms at most for half of them,"
            f" {1e3 * late.quantile(0.99):.1f} ms for 99 %, {1e3 * late.largest:.1f} ms for the latest"
        )
    if target is None:
        return
    if endpoint.save(target.path):
        typer.echo(f"Files: {target.path}")
    else:
        target.withdraw()
        typer.echo("No request came; nothing is written.")
