"""A comparison in the terminal: what is different, then the figures side by side."""

from __future__ import annotations

from tokensim.explore.compare import Comparison, Gap
from tokensim.explore.parameters import label_of


def print_comparison(found: Comparison) -> None:
    """Print the differences of the scenarios and the figures; bold: more than noise."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    names = [side.name for side in found.sides]
    if found.differences:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("differs", overflow="fold")
        for name in names:
            table.add_column(name, justify="right", overflow="fold")
        for path, values in found.differences:
            table.add_row(path, *("-" if value is None else str(label_of(value)) for value in values))
        console.print(table)
    else:
        console.print("The scenarios are the same.")
    console.print()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("figure", no_wrap=True)
    for index, name in enumerate(names):
        table.add_column(name, justify="right", overflow="fold")
        if index:
            table.add_column("to first" if len(names) > 2 else "difference", justify="right", no_wrap=True)
    for row in found.figures:
        cells = [row.figure.written(row.means[0])]
        for mean, gap in zip(row.means[1:], row.gaps, strict=True):
            cells += [row.figure.written(mean), _told(gap)]
        table.add_row(row.figure.title, *cells)
    console.print(table)
    console.print(_explained(found), markup=False)


def _told(gap: Gap | None) -> str:
    if gap is None:
        return "-"
    if gap.equal:
        return "equal"
    text = "from 0" if gap.relative is None else f"{gap.relative:+.1%}"
    if gap.real is None:
        return text
    return f"[bold]{text} real[/]" if gap.real else f"{text} noise"


def _explained(found: Comparison) -> str:
    """What 'real' and 'noise' mean here."""
    counts = sorted({len(side.seeds) for side in found.sides})
    if counts == [1]:
        return (
            "\nOne run of each: how much of a difference is noise is not known. --seeds 5 repeats them with"
            " further seeds."
        )
    test = "in pairs" if all(found.paired) else "Welch's t-test" if not any(found.paired) else "t-tests"
    return (
        f"\n{' or '.join(map(str, counts))} seeds each, means; real: not by chance at"
        f" {100 * found.confidence:.6g} % confidence for all lines together ({test}, Holm). Noise: not"
        " told apart from it with so many seeds."
    )
