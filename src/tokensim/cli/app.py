"""The commands of ``tokensim`` and what they share."""

from __future__ import annotations

from typing import Annotated

import typer

from tokensim.cli import (
    calibrate,
    capacity,
    cases,
    compare,
    devices,
    explain,
    models,
    optimize,
    plot,
    profile,
    profiles,
    record,
    report,
    run,
    scenario,
    schema,
    sensitivity,
    serve,
    sweep,
    validate,
)

app = typer.Typer(
    name="tokensim",
    help="Predict how an LLM serving system behaves, before anyone books the hardware for it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("plot")(plot.plot)
app.command("sweep")(sweep.sweep)
app.command("capacity")(capacity.capacity)
app.command("compare")(compare.compare)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("optimize")(optimize.optimize)
app.command("explain")(explain.explain)
app.command("record")(record.record)
app.command("validate")(validate.validate)
app.command("calibrate")(calibrate.calibrate)
app.command("profile")(profile.profile)
app.command("scenario", context_settings=scenario.SETTINGS)(scenario.scenario)
app.command("serve")(serve.serve)
app.command("schema")(schema.schema)
app.command("models")(models.models)
app.command("devices")(devices.devices)
app.add_typer(profiles.app, name="profiles")
app.add_typer(cases.app, name="cases")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"tokensim {version('tokensim')}")
        except PackageNotFoundError:
            typer.echo("tokensim (not installed: run from its source)")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Predict how an LLM serving system behaves, before anyone books the hardware for it."""
