"""Least squares with few unknowns: what can be told at all, the best values, and how sure they are.

Unknowns are scaled to their bounds, so that 0 and 1 are the bounds; residuals are in standard deviations.
Each unknown adds a residual of its own, how many of its plausible deviations it is away from where it starts:
where figures leave a choice, the plausible explanation wins, and a fit on one load holds on others. A
combination of unknowns that hardly moves the figures over its whole range is not identified, and is refused
rather than fitted. Residuals beyond a few standard deviations weigh linearly (soft L1), so that one bad tail
does not bend the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.validation.parameters import Parameter
from tokensim.workload.base import Floats

STEPS = (0.02, 0.15)
"""Of the range: half the step of a difference quotient, at least and at most. In between it is what changes
the residuals by ``VISIBLE``. A schedule is discrete, so times are uneven in the small."""

VISIBLE = 2.5
"""Standard deviations: a change well above the unevenness of single requests."""

WIDE = 0.1
"""Of the range: half the step where it is asked what can be told at all."""

WEAK = 10.0
"""Standard deviations: what moves all figures together by less over its whole range could not be found to
better than a tenth of it."""

OUTLIER = 3.0
"""Standard deviations beyond which a residual weighs linearly."""

ALIKE = 0.1
"""Least singular value when every unknown's effect has length one: below, some combination of unknowns does
what another does but for a tenth (two unknowns: effects within 8 degrees of each other)."""

SHARED = 0.2
"""An unknown whose part in a weak combination is below this share of the largest has little to do with it."""

AT_BOUND = 0.01
"""Of the range: this near is at the bound."""

Function = Callable[[Floats], Floats]
"""Residuals at a point of the unit cube."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One unknown's ``value`` and standard error, and the bound that it was stopped at (None: none)."""

    parameter: Parameter
    value: float
    stderr: float
    bound: float | None


def start_of(parameters: Sequence[Parameter]) -> Floats:
    """Where a fit of ``parameters`` begins, in the unit cube."""
    return np.array([(p.start - p.low) / (p.high - p.low) for p in parameters])


def spread_of(parameters: Sequence[Parameter]) -> Floats:
    """The plausible deviations of ``parameters``, in the unit cube."""
    return np.array([p.spread / (p.high - p.low) for p in parameters])


def values_of(parameters: Sequence[Parameter], point: Floats) -> list[float]:
    """The parameters' values at ``point`` of the unit cube."""
    return [p.low + float(u) * (p.high - p.low) for p, u in zip(parameters, point, strict=True)]


def jacobian(function: Function, point: Floats, steps: Floats | float = WIDE) -> Floats:
    """Central differences of ``function`` at ``point`` (as far as the bounds): [residuals, unknowns]."""
    columns = []
    for index, step in enumerate(np.broadcast_to(steps, point.shape)):
        low, high = point.copy(), point.copy()
        low[index], high[index] = max(point[index] - step, 0.0), min(point[index] + step, 1.0)
        columns.append((function(high) - function(low)) / (high[index] - low[index]))
    return np.column_stack(columns)


def unidentified(slopes: Floats, parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """What cannot be told from figures with these ``slopes``; () if everything can.

    One parameter: it does not show. Several: they cannot be told apart. In the order of ``parameters``.
    """
    lengths = np.linalg.norm(slopes, axis=0)
    for parameter, length in zip(parameters, lengths, strict=True):
        if length < WEAK:
            return (parameter,)
    for matrix, least in ((slopes, WEAK), (slopes / lengths, ALIKE)):
        _, strengths, directions = np.linalg.svd(matrix)
        if len(strengths) < len(parameters) or strengths[-1] < least:
            parts = np.abs(directions[-1]) * np.linalg.norm(matrix, axis=0)
            return tuple(p for p, part in zip(parameters, parts, strict=True) if part >= SHARED * parts.max())
    return ()


def least_needed(
    residuals: Floats, slopes: Floats, parameters: Sequence[Parameter], among: Sequence[Parameter]
) -> Parameter:
    """Which of ``among`` the ``residuals``, at the start of a fit of ``parameters``, can best do without.

    The others are set as well as ``slopes``, bounds and plausibility let them; of equals, the last one goes.
    """
    from scipy.optimize import lsq_linear

    point, spread = start_of(parameters), spread_of(parameters)

    def remainder(without: int) -> float:
        kept = [index for index in range(len(point)) if index != without]
        if not kept:
            return float(residuals @ residuals)
        rows = np.vstack([slopes[:, kept], np.diag(1.0 / spread[kept])])
        right = np.concatenate([-residuals, np.zeros(len(kept))])
        bounds = (-point[kept] - 1e-9, 1.0 - point[kept] + 1e-9)
        return float(lsq_linear(rows, right, bounds).cost)

    indices = [parameters.index(parameter) for parameter in among]
    return parameters[min(indices, key=lambda index: (remainder(index), -index))]


def fit(function: Function, parameters: Sequence[Parameter], independent: int) -> list[Fitted]:
    """The best values of ``parameters`` within their bounds, with standard errors.

    ``independent`` is the number of independent figures behind the residuals. The errors come from the
    Jacobian and the noise that the residuals are scaled by, widened where the residuals that remain are
    larger than that noise.
    """
    from scipy.optimize import least_squares

    center, spread = start_of(parameters), spread_of(parameters)
    effects = np.linalg.norm(jacobian(function, center), axis=0)
    steps = np.clip(VISIBLE / np.maximum(effects, 1e-9), *STEPS)

    def residuals(point: Floats) -> Floats:
        return np.concatenate([function(point), (point - center) / spread])

    def slopes_at(point: Floats) -> Floats:
        return np.vstack([jacobian(function, point, steps), np.diag(1.0 / spread)])

    result = least_squares(
        residuals,
        np.clip(center, 0.01, 0.99),
        jac=slopes_at,
        bounds=(0.0, 1.0),
        loss="soft_l1",
        f_scale=OUTLIER,
        x_scale=1.0,
        ftol=1e-3,
        xtol=1e-3,
        gtol=1e-8,
        max_nfev=15,
    )
    point = result.x
    slopes = jacobian(function, point, np.maximum(steps, WIDE))
    noise = max(2.0 * float(result.cost) / max(independent - len(parameters), 1), 1.0)
    covariance = np.linalg.inv(slopes.T @ slopes / noise + np.diag(1.0 / spread**2))
    found = []
    values, deviations = values_of(parameters, point), np.sqrt(np.diag(covariance))
    for parameter, value, u, deviation in zip(parameters, values, point, deviations, strict=True):
        bound = parameter.low if u < AT_BOUND else parameter.high if u > 1.0 - AT_BOUND else None
        found.append(Fitted(parameter, value, float(deviation) * (parameter.high - parameter.low), bound))
    return found
