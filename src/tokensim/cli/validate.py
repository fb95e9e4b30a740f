"""``tokensim validate``: replay measured cases and say how far the simulation is from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli import DONE, INCOMPLETE, REFUSED
from tokensim.cli.options import Operators, Overrides, Plugins, load_plugins

if TYPE_CHECKING:
    from tokensim.cost.calibration import Calibration
    from tokensim.validation.case import Case
    from tokensim.validation.errors import CaseErrors
    from tokensim.validation.replay import Replay


def validate(
    cases: Annotated[
        list[Path], typer.Argument(help="Folders of cases, or case.yaml files.", metavar="CASE")
    ],
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the errors as JSON; -: to stdout.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with figures (works offline).")
    ] = None,
    fail_above: Annotated[
        str | None,
        typer.Option(
            "--fail-above",
            metavar="SHARE",
            help="Exit with 1 if the mean TTFT, TPOT, E2E or throughput of a case is off by more: 5%.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", metavar="FILE", help="Apply what was fitted.")
    ] = None,
    operators: Operators = None,
    set_: Overrides = None,
    plugin: Plugins = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no table.")] = False,
) -> None:
    """Replay measured cases and print how far the simulation is from them.

    An error is simulated over measured, less one. A case that cannot be simulated is named, and the others go
    on. Exit codes: 0 done, 1 an error is above --fail-above, 2 a case or an option was refused.
    """
    from tokensim.errors import InputError, SimulationError
    from tokensim.validation.case import find_cases, read_case
    from tokensim.validation.errors import errors_of, parse_share

    limit = parse_share(fail_above, "--fail-above") if fail_above is not None else None
    load_plugins(plugin)
    fitted = _calibration(calibration)
    replays: list[Replay] = []
    refused: list[tuple[str, str]] = []
    found = [read_case(file) for file in find_cases(cases)]
    try:
        for case in found:
            try:
                replays.append(
                    _replay(case, set_ or [], operators, fitted, quiet=quiet, over_time=html is not None)
                )
            except InputError as error:
                if len(found) == 1:
                    raise
                refused.append((case.name, str(error)))
    except KeyboardInterrupt:
        raise SimulationError("interrupted; nothing was written") from None
    errors = [errors_of(replay) for replay in replays]
    _deliver(errors, replays, refused, json_, html, quiet=quiet)
    code = DONE
    for off in errors:
        if limit is not None and off.worst_mean() > limit:
            print(f"error: {off.name}: a mean is {off.worst_mean():.1%} off (> {limit:.1%})", file=sys.stderr)
            code = INCOMPLETE
    for name, why in refused:
        if quiet or json_ == "-":
            print(f"error: {name}: {why}", file=sys.stderr)
        code = REFUSED
    raise typer.Exit(code)


def _calibration(file: Path | None) -> Calibration | None:
    from tokensim.cost.calibration import load_calibration

    return None if file is None else load_calibration(file)


def _replay(
    case: Case,
    overrides: Sequence[str],
    operators: str | None,
    fitted: Calibration | None,
    *,
    quiet: bool,
    over_time: bool,
) -> Replay:
    from tokensim.cli.interrupt import Interrupt
    from tokensim.cli.progress import progress_bar
    from tokensim.errors import InputError
    from tokensim.validation.replay import document_of, replay

    with Interrupt() as interrupt:
        document = document_of(case, overrides, operators)
        scenario = document.check()
        interrupt.check()
        try:
            with progress_bar(quiet) as bar:
                return replay(case, scenario, fitted, interrupt.watch(bar), over_time=over_time)
        except InputError as error:
            raise document.locate(error) from None


def _deliver(
    errors: Sequence[CaseErrors],
    replays: Sequence[Replay],
    refused: Sequence[tuple[str, str]],
    json_: str | None,
    html: Path | None,
    *,
    quiet: bool,
) -> None:
    """Write what was asked for and print the table."""
    from tokensim.validation.output import write_text
    from tokensim.validation.table import print_errors

    if json_ is not None:
        tree = {
            "cases": [case.to_dict() for case in errors],
            "refused": [{"name": name, "why": why} for name, why in refused],
        }
        text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if json_ == "-":
            typer.echo(text, nl=False)
        else:
            write_text(Path(json_), text)
    if html is not None:
        from tokensim.validation.page import validation_page

        write_text(html, validation_page(errors, replays, refused))
    if not quiet and json_ != "-":
        print_errors(errors, refused)
