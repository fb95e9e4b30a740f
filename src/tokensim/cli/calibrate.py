"""``tokensim calibrate``: fit the few unknowns of a machine on measured cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli.options import Operators, Overrides, Plugins, load_plugins

if TYPE_CHECKING:
    from tokensim.validation.calibrate import Outcome


def calibrate(
    cases: Annotated[
        list[Path],
        typer.Argument(help="Folders of cases of one machine, or case.yaml files.", metavar="CASE"),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the calibration goes (YAML).")
    ],
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Of host_gap, compute, client, memory, host_step, host_request, clock, clock_time_constant."
            " [default: the first four, as far as the cases show them]",
        ),
    ] = None,
    operators: Operators = None,
    set_: Overrides = None,
    plugin: Plugins = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Fit the few physical unknowns of a machine on measured cases, and write them to a file.

    What the cases cannot tell is refused. Apply the file with 'performance.calibration' in a scenario, and
    check it on cases that were not fitted: tokensim validate OTHERS --calibration FILE.
    """
    from tokensim.errors import SimulationError
    from tokensim.validation.calibrate import calibrate as fit_parameters
    from tokensim.validation.calibrate import calibration_yaml
    from tokensim.validation.case import find_cases, read_case
    from tokensim.validation.output import write_text
    from tokensim.validation.parameters import chosen
    from tokensim.validation.replay import document_of

    parameters = chosen(fit)
    load_plugins(plugin)
    found = [read_case(file) for file in find_cases(cases)]
    scenarios = [document_of(case, set_ or [], operators).check() for case in found]
    try:
        with _counter(quiet) as watch:
            outcome = fit_parameters(
                found, scenarios, parameters, chosen_by_user=fit is not None, watch=watch
            )
    except KeyboardInterrupt:
        raise SimulationError("interrupted; nothing was written") from None
    write_text(output, calibration_yaml(outcome))
    if not quiet:
        _print(outcome, output)


@contextmanager
def _counter(quiet: bool) -> Iterator[Callable[[int], None]]:
    """A line on stderr that counts simulations, where that is a terminal."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield lambda runs: None
        return
    from rich.console import Console

    with Console(stderr=True).status("calibrating") as status:
        yield lambda runs: status.update(f"calibrating: {runs} simulations")


def _print(outcome: Outcome, output: Path) -> None:
    """The parameters with their uncertainty, what they did to the errors, and what to mind."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tokensim.report.numbers import duration
    from tokensim.validation.errors import METRICS
    from tokensim.validation.output import print_plain
    from tokensim.validation.table import LABELS, coloured

    def shown(value: float, seconds: bool) -> str:
        return duration(value) if seconds else f"{value:.3f}"

    def table(titles: Sequence[str]) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for title in titles:
            made.add_column(title, justify="left" if title == titles[0] else "right")
        return made

    values = table(("parameter", "value", "std. error", "bounds"))
    for found in outcome.fitted:
        p = found.parameter
        bounds = f"{shown(p.low, p.seconds)} to {shown(p.high, p.seconds)}"
        values.add_row(p.name, shown(found.value, p.seconds), shown(found.stderr, p.seconds), bounds)
    metrics = (*METRICS, "throughput")
    errors = table(("error of the mean", *(LABELS[metric] for metric in metrics)))
    for before, after in zip(outcome.before, outcome.after, strict=True):
        for name, case in ((before.name, before), ("  calibrated", after)):
            errors.add_row(name, *(coloured(case.error[metric]["mean"]) for metric in metrics))
    notes = [Text(f"warning: {note}", "yellow") for note in outcome.notes]
    print_plain(Group(values, Text(), errors, Text(), *notes, Text(f"File: {output}")))
