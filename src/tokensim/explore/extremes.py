"""What a sweep shows at a glance: how each figure runs over the configurations, and where it is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokensim.explore.key_figures import by_name

if TYPE_CHECKING:
    from tokensim.explore.sweep import SweepResult


@dataclass(frozen=True, slots=True)
class Extreme:
    """A figure over the configurations: ``values`` in their order (means over seeds; None: a run failed), and
    the first ``point`` of the configuration with the ``best`` of them, which is the ``most`` or the least."""

    figure: str
    values: tuple[float | None, ...]
    best: float
    point: int
    most: bool


def extremes(result: SweepResult, figures: Sequence[str]) -> list[Extreme]:
    """Each of ``figures`` that varies over the configurations, in their order."""
    import polars as pl

    frame = result.frame
    seeds = result.study.file.seeds
    there = [name for name in figures if name in frame.columns and frame[name].dtype.is_numeric()]
    if not there:
        return []
    told = (
        frame.group_by(pl.col("point") // seeds, maintain_order=True)
        .agg(
            pl.col("point").first().alias("first"),
            (pl.col("status") == "ok").all().alias("ok"),
            *(pl.col(name).mean().alias(f"mean of {name}") for name in there),
        )
        .with_columns(pl.when("ok").then(pl.col(f"mean of {name}")).alias(name) for name in there)
    )
    found = []
    for name in there:
        known = told.drop_nulls(name)
        if known[name].n_unique() < 2:
            continue
        most = by_name(name).better == "more"
        at = known[name].arg_max() if most else known[name].arg_min()
        assert at is not None
        best, point = known[name][at], known["first"][at]
        found.append(Extreme(name, tuple(told[name].to_list()), best, point, most))
    return found
