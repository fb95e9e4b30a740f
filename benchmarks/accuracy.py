"""How accurate the simulator is: errors against measured cases, zero-shot and calibrated, as markdown.

    python benchmarks/accuracy.py                          # cases in ../shared/groundtruth
    python benchmarks/accuracy.py FOLDER --sources tables  # of one source of operator times
    python benchmarks/accuracy.py --fit-on w5-sweep-agg24  # calibrate on this case only

``tables`` are the operator times that the case names (measured beside it), else the extra ``measured``;
``builtin`` and ``roofline`` are as in ``performance.operators``. Zero-shot: nothing fitted to the machine.
Calibrated: fitted on one case of a machine (same device, model and layout), each in turn, and tested on its
others; a machine with a single case is tested on itself, and the heading says so. Errors are in percent,
simulated over measured less one; "each" is the mean absolute error of E2E request by request.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from tokensim import InputError
from tokensim.cost.calibration import Calibration
from tokensim.scenario import Scenario
from tokensim.validation.calibrate import calibrate
from tokensim.validation.case import Case, find_cases, read_case
from tokensim.validation.errors import CaseErrors, errors_of
from tokensim.validation.parameters import chosen
from tokensim.validation.replay import document_of, replay
from tokensim.validation.table import markdown

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("tables", "builtin", "roofline")

Ready = tuple[Case, Scenario]


def ready(cases: list[Case], source: str) -> tuple[list[Ready], list[str]]:
    """The cases that can be simulated with ``source``, and why the others cannot."""
    found, refused = [], []
    for case in cases:
        own = "operators" in case.tree.get("performance", {})
        operators = source if source != "tables" else None if own else "aiconfigurator"
        try:
            found.append((case, document_of(case, operators=operators).check()))
        except InputError as error:
            refused.append(f"{case.name}: {error.message}")
    return found, refused


def measure(
    pairs: list[Ready], refused: list[str], calibration: Calibration | None = None
) -> list[CaseErrors]:
    """The errors of each; what is refused on the way goes to ``refused``."""
    errors = []
    for case, scenario in pairs:
        try:
            errors.append(errors_of(replay(case, scenario, calibration)))
        except InputError as error:
            refused.append(f"{case.name}: {error.message}")
    return errors


def machines(pairs: list[Ready]) -> Iterator[list[Ready]]:
    """The cases of each machine: device, model and layout alike."""
    groups: dict[str, list[Ready]] = {}
    for case, scenario in pairs:
        layouts = [(pool.hardware, pool.parallel, pool.replicas) for pool in scenario.cluster.pools]
        groups.setdefault(repr((scenario.model, scenario.weights, layouts)), []).append((case, scenario))
    yield from groups.values()


def calibrated(pairs: list[Ready], fit_on: str) -> Iterator[str]:
    """A section for each case whose name contains ``fit_on``: what was fitted, and the errors elsewhere."""
    for group in machines(pairs):
        for index, (case, scenario) in enumerate(group):
            if fit_on not in case.name:
                continue
            others = [pair for place, pair in enumerate(group) if place != index]
            try:
                outcome = calibrate([case], [scenario], chosen(None), chosen_by_user=False)
            except InputError as error:
                yield f"#### Fitted on {case.name}: {error.message}\n"
                continue
            values = ", ".join(f"{f.parameter.name} {f.value:.4g} ± {f.stderr:.2g}" for f in outcome.fitted)
            tested = "tested on the others" if others else "tested on itself"
            errors = measure(others, [], outcome.calibration) if others else outcome.after
            yield f"#### Fitted on {case.name}, {tested}\n\n{values}\n\n{markdown(errors)}\n"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT.parent / "shared" / "groundtruth")
    parser.add_argument("--sources", default=",".join(SOURCES), help="of " + ", ".join(SOURCES))
    parser.add_argument("--fit-on", default="", help="only cases whose name contains this; 'none': no fits")
    arguments = parser.parse_args()
    sources = arguments.sources.split(",")
    if unknown := [source for source in sources if source not in SOURCES]:
        parser.error(f"unknown source {unknown[0]!r}; known: {', '.join(SOURCES)}")
    try:
        cases = [read_case(file) for file in find_cases([arguments.folder])]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for source in sources:
        pairs, refused = ready(cases, source)
        errors = measure(pairs, refused)
        print(f"### {source}, zero-shot\n\n{markdown(errors)}\n", flush=True)
        for why in refused:
            print(f"- not simulated: {why}")
        print()
        if arguments.fit_on == "none":
            continue
        simulated = {case.name for case in errors}
        for section in calibrated([p for p in pairs if p[0].name in simulated], arguments.fit_on):
            print(section, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
