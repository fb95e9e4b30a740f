"""A study with its results, one row a configuration, as raw values for figures and as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.explore.figures import in_seconds
from tokensim.explore.results import RESULTS_FILE
from tokensim.explore.study import STUDY_FILE, Study
from tokensim.report.numbers import NOTHING, count, duration
from tokensim.report.page.filters import ROW
from tokensim.report.page.page import cell_text
from tokensim.report.series.base import Columns, columns

if TYPE_CHECKING:
    import polars as pl

SHOWN = (
    ("throughput.output_tokens_per_s", "output tokens/s"),
    ("latency.ttft_s.p99", "TTFT p99"),
    ("latency.tpot_s.p99", "TPOT p99"),
    ("latency.e2e_s.p99", "end to end p99"),
    ("slo.goodput_per_s", "goodput (requests/s)"),
    ("spending.usd_per_million_total_tokens", "US$ per million tokens"),
)
"""Figures that are drawn over the parameters, and their titles."""

SLO, MET, MISSED = "SLO", "met", "missed"
"""The column that says whether a configuration meets the SLO, with each of its seeds; None: not judged."""

CONFIGURATION, OTHERS = "configuration", "others"
"""The columns with all parameters in words, and with all but the one that lines run along."""

TOLD = "in its unit"
"""The column with the text of a cell of a heat map."""

OWN = (ROW, SLO, CONFIGURATION, OTHERS, TOLD)
"""Columns that no parameter may be called."""


@dataclass(frozen=True)
class StudyData:
    """A study and its table of runs."""

    study: Study
    frame: pl.DataFrame

    @property
    def names(self) -> list[str]:
        """The parameters, as columns."""
        return [parameter.name for parameter in self.study.parameters]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """The figures of ``SHOWN`` that there are."""
        return [
            (name, title) for name, title in SHOWN if name in self.frame.columns and self.frame[name].count()
        ]

    @property
    def judged(self) -> bool:
        """Whether any run was judged by an SLO."""
        return "slo.met" in self.frame.columns and self.frame["slo.met"].count() > 0

    @cached_property
    def titles(self) -> dict[str, str]:
        """The short name of each parameter, and of each figure that is shown."""
        short = [
            f"{name} (parameter)" if name in (*OWN, *(title for _, title in SHOWN)) else name
            for name in short_names(self.names)
        ]
        return {**dict(zip(self.names, short, strict=True)), **dict(self.shown)}

    def configurations(self) -> pl.DataFrame:
        """One row a configuration whose runs are all ok: figures are means over its seeds, ``SLO`` is of the
        worst."""
        import polars as pl

        wanted = [pl.col(name).mean() for name, _ in self.shown]
        if self.judged:
            met = pl.col("slo.met")
            verdict = (
                pl.when((~met).any()).then(pl.lit(MISSED)).when(met.is_not_null().all()).then(pl.lit(MET))
            )
            wanted.append(verdict.alias(SLO))
        return (
            self.frame.group_by(self.names, maintain_order=True)
            .agg(*wanted, (pl.col("status") == "ok").all().alias("ok"))
            .filter("ok")
            .drop("ok")
        )

    @cached_property
    def varied(self) -> list[str]:
        """The parameters that have several values among the configurations (or the first, if none has), by
        their titles."""
        told = self.configurations()
        varied = [name for name in self.names if told[name].n_unique() > 1]
        return [self.titles[name] for name in varied or self.names[:1]]

    @cached_property
    def table(self) -> Columns:
        """The configurations, by the titles of the columns (Vega-Lite takes a dot in a name for a path)."""
        told = self.configurations()
        table = columns(**{title: told[name].to_list() for name, title in self.titles.items()})
        if self.judged:
            table[SLO] = told[SLO].to_list()
        table[CONFIGURATION] = in_words(table, self.varied)
        table[ROW] = list(range(len(told)))
        return table

    @cached_property
    def texts(self) -> Columns:
        """``table`` as people read it, without what only figures need."""
        texts: Columns = {}
        for name, title in self.titles.items():
            kind = self._reader(name)
            texts[title] = [kind(value) for value in self.table[title]]
        if self.judged:
            texts[SLO] = [value or NOTHING for value in self.table[SLO]]
        return texts

    def _reader(self, name: str) -> Any:
        if name not in dict(self.shown):
            return cell_text
        return duration if in_seconds(name) else count


def read_study(folder: Path) -> StudyData:
    """The study whose results lie in ``folder``."""
    import polars as pl

    return StudyData(Study.from_yaml(folder / STUDY_FILE), pl.read_parquet(folder / RESULTS_FILE))


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of ``paths``, as many of them as tell each from the others."""
    parts = [path.replace("[", ".").replace("]", "").split(".") for path in paths]
    for many in range(1, max(map(len, parts), default=1)):
        short = [" ".join(part[-many:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return [" ".join(part) for part in parts]


def in_words(table: Columns, names: Sequence[str], *, named: bool = True) -> list[str]:
    """Each row's values of ``names``, in words; ``named``: each after its name."""
    return [
        ", ".join(
            f"{name} {cell_text(table[name][row])}" if named else cell_text(table[name][row])
            for name in names
        )
        for row in range(len(table[names[0]]))
    ]
