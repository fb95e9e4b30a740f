"""Calibration: the few unknowns of a machine, fitted so that measured cases come out as they were measured.

Every point of the fit is a full simulation of every case. What is compared are the figures of ``errors``, as
logarithms of simulated over measured, in units of ``NOISE``. The same cases give the same file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tokensim.cost.calibration import FORMAT, VERSION, Calibration
from tokensim.errors import InputError
from tokensim.scenario import yaml_text
from tokensim.validation import fit as numeric
from tokensim.validation.case import Case
from tokensim.validation.errors import STATISTICS, CaseErrors, errors_of
from tokensim.validation.parameters import CLOCK_TIME_CONSTANT_S, Parameter, names_of
from tokensim.validation.replay import replay
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    from tokensim.scenario import Scenario

NOISE: Mapping[str, float] = {"ttft": 0.03, "tpot": 0.01, "e2e": 0.01, "throughput": 0.01}
"""Relative deviation of a mean that a fit does not chase. Repeats of one run on real servers differ by 0.5 to
1.5 % (TTFT), 0.4 to 0.5 % (TPOT, E2E) and 0.4 to 1.0 % (throughput; vLLM 0.23.0, Qwen3-14B on an H100, runs
of 600 s); the rest is for what no parameter describes. With the repeats alone, fits on one of five such runs
were further off on the other four."""

TAIL: Mapping[str, float] = {"mean": 1.0, "p50": 1.0, "p90": 1.5, "p95": 2.0, "p99": 3.0}
"""How much worse than the mean a percentile repeats: taken, since few runs were repeated."""

GROUPS: tuple[tuple[str, ...], ...] = (("ttft",), ("tpot",), ("e2e", "throughput"))
"""Metrics whose figures tell one thing: each group of a case counts as one independent figure."""

Evaluate = Callable[[Calibration], list[CaseErrors]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a calibration found: the ``fitted`` parameters, the ``calibration`` that applies them, the errors
    of each case before and after, and ``notes`` (what was left out, what was stopped at a bound)."""

    fitted: tuple[numeric.Fitted, ...]
    calibration: Calibration
    before: list[CaseErrors]
    after: list[CaseErrors]
    notes: tuple[str, ...]


def calibrate(
    cases: Sequence[Case],
    scenarios: Sequence[Scenario],
    parameters: Sequence[Parameter],
    *,
    chosen_by_user: bool,
    watch: Callable[[int], None] = lambda runs: None,
) -> Outcome:
    """Fit ``parameters`` to ``cases``, replayed by ``scenarios`` (of ``replay.document_of``, one each).

    Parameters that the cases cannot identify are refused (``InputError``) when ``chosen_by_user``, else left
    at their defaults and named in the notes. ``watch`` is called with the number of simulations so far.
    """
    identity = same_machine(cases, scenarios)
    runs = 0
    known: dict[Calibration, list[CaseErrors]] = {}

    def evaluate(calibration: Calibration) -> list[CaseErrors]:
        nonlocal runs
        if calibration not in known:
            found = []
            for case, scenario in zip(cases, scenarios, strict=True):
                found.append(errors_of(replay(case, scenario, calibration)))
                runs += 1
                watch(runs)
            known[calibration] = found
        return known[calibration]

    before = evaluate(Calibration())
    wanted, notes = _visible(cases, parameters, chosen_by_user)
    wanted, more = _identified(evaluate, wanted, before, chosen_by_user)
    fitted = numeric.fit(_residuals(evaluate, wanted), wanted, independent(before))
    calibration = calibration_of(wanted, [found.value for found in fitted])
    after = evaluate(calibration)
    calibration = replace(calibration, **identity)
    notes += more
    notes += [
        f"{found.parameter.name} was stopped at its bound {found.bound:g}: something else is off"
        for found in fitted
        if found.bound is not None
    ]
    return Outcome(tuple(fitted), calibration, before, after, tuple(notes))


def independent(errors: Sequence[CaseErrors]) -> int:
    """How many independent figures the cases give: one for each group that has any."""
    return sum(
        any(case.measured[metric]["mean"] is not None for metric in group)
        for case in errors
        for group in GROUPS
    )


def residuals_of(errors: Sequence[CaseErrors]) -> Floats:
    """``ln(simulated / measured)`` of every figure in standard deviations, groups weighing alike."""
    found: list[float] = []
    for case in errors:
        for group in GROUPS:
            inside = [
                math.log(simulated / measured) / (NOISE[metric] * TAIL[statistic])
                for metric in group
                for statistic in STATISTICS
                if (measured := case.measured[metric].get(statistic))
                and (simulated := case.simulated[metric].get(statistic))
            ]
            found += [value / math.sqrt(len(inside)) for value in inside]
    return np.array(found)


def calibration_of(parameters: Sequence[Parameter], values: Sequence[float]) -> Calibration:
    """The calibration in which ``parameters`` have ``values``, all others their defaults (a slowdown of the
    clock without a time constant: the one that a fit of it starts from)."""
    fields: dict[str, Any] = {p.field: value for p, value in zip(parameters, values, strict=True)}
    if "clock_slowdown" in fields:
        fields.setdefault("clock_time_constant_s", CLOCK_TIME_CONSTANT_S)
    return Calibration(**fields)


def _residuals(evaluate: Evaluate, parameters: Sequence[Parameter]) -> numeric.Function:
    def residuals(point: Floats) -> Floats:
        return residuals_of(evaluate(calibration_of(parameters, numeric.values_of(parameters, point))))

    return residuals


def _visible(
    cases: Sequence[Case], parameters: Sequence[Parameter], chosen_by_user: bool
) -> tuple[tuple[Parameter, ...], list[str]]:
    """Without what only a client sees, where no client measured."""
    if any(case.facts.anchor == "client-send" for case in cases):
        return tuple(parameters), []
    hidden = [parameter for parameter in parameters if parameter.client_only]
    if hidden and chosen_by_user:
        raise InputError(
            f"the cases do not show {names_of(hidden)}",
            where="--fit",
            hint="no client measured them (anchor: engine-queue); leave it out",
        )
    return tuple(p for p in parameters if not p.client_only), []


def _identified(
    evaluate: Evaluate, parameters: tuple[Parameter, ...], errors: Sequence[CaseErrors], chosen_by_user: bool
) -> tuple[tuple[Parameter, ...], list[str]]:
    """The parameters that the cases can tell, and what was left out and why: of those that cannot be told
    together, what explains the errors least."""
    notes: list[str] = []
    left, point = parameters, numeric.start_of(parameters)
    residuals = _residuals(evaluate, left)
    slopes, off = numeric.jacobian(residuals, point), residuals(point)
    figures = independent(errors)
    while left:
        if len(left) > figures:
            weak, why = left, f"{len(left)} unknowns, and only {figures} independent figures"
        else:
            weak = numeric.unidentified(slopes, left)
            if not weak:
                return left, notes
            why = f"the cases do not show {names_of(weak)}"
            if len(weak) > 1:
                why = f"the cases cannot tell {names_of(weak)} apart"
        if chosen_by_user:
            raise InputError(
                why,
                where="--fit",
                hint="fit fewer, or add cases of the same machine under other loads (another rate, longer"
                " prompts, larger batches)",
            )
        out = numeric.least_needed(off, slopes, left, weak)
        notes.append(f"{out.name} was left as it is: {why}")
        slopes = slopes[:, [parameter is not out for parameter in left]]
        left = tuple(parameter for parameter in left if parameter is not out)
    raise InputError("the cases identify none of the parameters", where="--fit", hint="; ".join(notes))


def same_machine(cases: Sequence[Case], scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Device, models and engine of the cases; raises ``InputError`` if the machine is not one and the
    same."""
    devices: dict[str, str] = {}
    engines: dict[str, str] = {}
    models: dict[str, None] = {}
    for case, scenario in zip(cases, scenarios, strict=True):
        for pool in scenario.cluster.pools:
            device = pool.hardware
            devices.setdefault(device if isinstance(device, str) else str(device.get("id", "")), case.name)
            engine = scenario.pool_engine(pool)
            engines.setdefault(f"{engine.policy} {engine.version}", case.name)
        models.setdefault(scenario.model if isinstance(scenario.model, str) else "inline", None)
    if len(devices) > 1:
        first, second, *_ = devices.items()
        raise InputError(
            f"the cases ran on different devices: {first[0]} ({first[1]}) and {second[0]} ({second[1]})",
            where="calibrate",
            hint="a calibration is of one machine: one for each",
        )
    return {"device": next(iter(devices)), "model": ", ".join(models), "engine": ", ".join(engines)}


def calibration_yaml(outcome: Outcome) -> str:
    """The text of a calibration file (``cost.calibration.load_calibration`` reads it)."""
    parameters: dict[str, dict[str, Any]] = {
        found.parameter.field: {
            "value": _rounded(found.value),
            "stderr": _rounded(found.stderr),
            "bounds": [found.parameter.low, found.parameter.high],
        }
        for found in outcome.fitted
    }
    for name, value in outcome.calibration.parameters().items():
        parameters.setdefault(name, {"value": value})  # held, not fitted
    tree: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "fitted_on": [case.name for case in outcome.before],
        "device": outcome.calibration.device,
        "model": outcome.calibration.model.split(", "),
        "engine": outcome.calibration.engine,
        "parameters": parameters,
        "errors_before": {case.name: _errors(case) for case in outcome.before},
        "errors_after": {case.name: _errors(case) for case in outcome.after},
    }
    if outcome.notes:
        tree["notes"] = list(outcome.notes)
    return yaml_text.dump(tree)


def _errors(case: CaseErrors) -> dict[str, dict[str, float | None]]:
    return {
        metric: {name: None if value is None else round(value, 4) for name, value in figures.items()}
        for metric, figures in case.error.items()
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
