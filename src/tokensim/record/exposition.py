"""Prometheus text, as far as a few metrics of it are wanted: their samples, summed over labels or not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Wanted:
    """Finds the metrics of a server in a text; ``metrics`` as in ``Flavour``. A regular expression over the
    whole text, so that a page of 100 KB costs well under a millisecond."""

    def __init__(self, metrics: Mapping[str, tuple[str, ...]]) -> None:
        self._column = {
            name: (column, rank) for column, names in metrics.items() for rank, name in enumerate(names)
        }
        known = "|".join(re.escape(name) for name in self._column)
        self._pattern = re.compile(rf"^({known})(?:{{[^\n]*}})?[ \t]+(\S+)", re.M) if known else None

    def read(self, text: str) -> dict[str, float]:
        """Our column → its value, of several engines (or ranks) the sum, of shares of KV the mean; a metric
        with several names counts by the first that is there."""
        if self._pattern is None:
            return {}
        found: dict[tuple[str, int], list[float]] = {}
        for name, value in self._pattern.findall(text):
            number = _number(value)
            if not math.isnan(number):
                found.setdefault(self._column[name], []).append(number)
        values: dict[str, float] = {}
        for column, rank in sorted(found):
            if column not in values:
                several = found[column, rank]
                values[column] = sum(several) / (len(several) if column == "kv_usage" else 1)
        return values


def labels_of(text: str, metric: str) -> dict[str, str]:
    """The labels of the first sample of ``metric``; empty if there is none."""
    found = re.search(rf"^{re.escape(metric)}{{([^\n]*)}}", text, re.M)
    return dict(LABEL.findall(found[1])) if found else {}


def begins_with(text: str, prefixes: Iterable[str]) -> str | None:
    """The first of ``prefixes`` with which a metric of ``text`` begins."""
    for prefix in prefixes:
        if re.search(rf"^{re.escape(prefix)}", text, re.M):
            return prefix
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
