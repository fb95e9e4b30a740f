"""What several seeds say: a mean with its interval, and whether two figures differ by more than noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from statistics import fmean, stdev


def half_width(values: Sequence[float], confidence: float) -> float | None:
    """Half the interval that covers the mean of what ``values`` were drawn from with that ``confidence`` (0
    to 1), by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    spread = stdev(values)
    if spread == 0:
        return 0.0
    from scipy.stats import t

    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    return quantile * spread / math.sqrt(len(values))


def gap_half_width(
    first: Sequence[float], second: Sequence[float], confidence: float, *, paired: bool
) -> float | None:
    """Half the interval that covers the difference of the two means with that ``confidence``, by the same t
    distribution as ``p_value``; None with less than two values of either."""
    if len(first) < 2 or len(second) < 2:
        return None
    if paired:
        return half_width([b - a for a, b in zip(first, second, strict=True)], confidence)
    parts = [(stdev(values) ** 2 / len(values), len(values) - 1) for values in (first, second)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    from scipy.stats import t

    # Welch and Satterthwaite's degrees of freedom.
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)


def p_value(first: Sequence[float], second: Sequence[float], *, paired: bool) -> float | None:
    """How likely means so far apart are if both are drawn from the same: by the t-test for pairs, else by
    Welch's; None with less than two values of either.

    Values without any spread are exact: 1 where they are equal, 0 where they are not.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    if paired:
        gaps = [b - a for a, b in zip(first, second, strict=True)]
        constant = _even(gaps, max(map(abs, [*first, *second])))
    else:
        constant = _even(first, abs(first[0])) and _even(second, abs(second[0]))
    if constant:
        return 1.0 if math.isclose(fmean(first), fmean(second), rel_tol=1e-9) else 0.0
    from scipy.stats import ttest_ind, ttest_rel

    with warnings.catch_warnings():  # of values that hardly differ
        warnings.simplefilter("ignore", RuntimeWarning)
        test = ttest_rel(second, first) if paired else ttest_ind(second, first, equal_var=False)
    return float(test.pvalue)


def _even(values: Sequence[float], scale: float) -> bool:
    """Whether ``values`` are all the same, up to the rounding of figures of that ``scale``."""
    return max(values) - min(values) <= 1e-9 * scale


def holm(p_values: Sequence[float]) -> list[float]:
    """``p_values`` of tests made together, corrected so that the chance of any false alarm among them stays
    what it is for one (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = least
    return corrected
