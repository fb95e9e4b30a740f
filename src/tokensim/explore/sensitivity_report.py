"""Sensitivities in the terminal: a tornado of the main figure, and the elasticities of all."""

from __future__ import annotations

from tokensim.explore.sensitivity import ABILITIES, Sensitivity

WIDTH = 24
"""Cells of the longest bar."""

EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(value: float, largest: float) -> str:
    """A bar of ``value``, 0 to ``largest``, to an eighth of a cell."""
    eighths = round(8 * WIDTH * value / largest) if largest > 0 else 0
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def print_sensitivity(found: Sensitivity, title: str) -> None:
    """Print the bottleneck, the tornado and the elasticities."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if title:
        console.print(title, style="bold", markup=False)
    console.print(found.sentence, style="bold", markup=False)
    console.print()
    main = found.main
    values = {ability: row.get(main) for ability, row in found.table.items()}
    largest = max((abs(one.value) for one in values.values() if one is not None), default=0.0)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(f"{100 * found.change:+.4g} %", no_wrap=True)
    table.add_column(main, no_wrap=True)
    table.add_column("effect", justify="right", no_wrap=True)
    table.add_column("elasticity", justify="right", no_wrap=True)
    for ability, one in values.items():
        if one is None:
            table.add_row(ABILITIES[ability], "", "-", "-")
            continue
        spread = "" if one.half_width is None else f" ± {one.half_width:.2f}"
        table.add_row(
            ABILITIES[ability],
            bar(abs(one.value), largest),
            f"{one.effect:+.1%}",
            f"{one.value:+.2f}{spread}",
        )
    console.print(table)
    others = [name for name in found.baseline if name != main]
    if others and found.table:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
        table.add_column("elasticity of", no_wrap=True)
        for name in others:
            table.add_column(name, justify="right")
        for ability, row in found.table.items():
            cells = [row.get(name) for name in others]
            table.add_row(ABILITIES[ability], *("-" if one is None else f"{one.value:+.2f}" for one in cells))
        console.print()
        console.print(table)
    lines = []
    if found.without_effect:
        names = ", ".join(ABILITIES[ability] for ability in found.without_effect)
        lines.append(f"Without any effect: {names}")
    if len(found.seeds) == 1:
        lines.append("One seed: how much of this is noise is not known.")
    else:
        lines.append(f"± {100 * found.confidence:.6g} % interval over {len(found.seeds)} seeds")
    lines += [f"Note: {note}" for note in found.notes]
    for line in lines:
        console.print(line, markup=False)
