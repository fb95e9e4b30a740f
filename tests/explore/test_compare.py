"""A comparison finds what differs and calls real what seeds do not explain, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_study import SCENARIO

from tokensim import simulate
from tokensim.errors import InputError
from tokensim.explore.compare import Comparison, Gap, compare
from tokensim.explore.executors import make_executor
from tokensim.explore.statistics import gap_half_width, half_width, holm, p_value
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping

SERIAL = make_executor("serial")


def scenario(rate: float = 10, seed: int = 0, **engine: Any) -> Scenario:
    workload = {
        **SCENARIO["workload"],
        "arrivals": {"process": "poisson", "rate": rate},
        "input_tokens": {"distribution": "lognormal", "mean": 300, "cv": 1.0, "max": 2000},
        "num_requests": 60,
    }
    return from_mapping({**SCENARIO, "workload": workload, "seed": seed, "engine": engine})


def gaps(found: Comparison) -> dict[str, Gap]:
    return {row.figure.name: row.gaps[0] for row in found.figures if row.gaps[0] is not None}


def test_the_same_scenario_with_other_seeds_is_not_told_apart() -> None:
    for first in range(0, 30, 10):
        found = compare([scenario(seed=first), scenario(seed=first + 5)], executor=SERIAL)
        assert found.paired == (False,)
        assert not any(gap.real for gap in gaps(found).values())
        assert [path for path, _ in found.differences] == ["seed"]
        assert gaps(found)["latency.ttft_s.mean"].relative != 0


def test_the_same_scenario_with_the_same_seeds_is_equal() -> None:
    found = compare([scenario(), scenario()], seeds=2, executor=SERIAL)
    assert found.differences == ()
    assert all(gap.equal and not gap.real for gap in gaps(found).values())


def test_what_one_side_has_none_of_is_told_entry_by_entry() -> None:
    restarts = [{"pool": "serve", "at": 1.0}]
    restarted = from_mapping({**SCENARIO, "cluster": {**SCENARIO["cluster"], "restarts": restarts}})
    found = compare([from_mapping(SCENARIO), restarted], executor=SERIAL)
    paths = [path for path, _ in found.differences]
    assert "cluster.restarts[0].pool" in paths and "cluster.restarts" not in paths


def test_a_real_difference_is_found_and_where_it_comes_from() -> None:
    found = compare([scenario(), scenario(max_num_batched_tokens=256)], executor=SERIAL)
    assert found.paired == (True,)
    assert found.differences == (("engine.max_num_batched_tokens", (None, 256)),)
    ttft = gaps(found)["latency.ttft_s.mean"]
    assert ttft.real and ttft.relative is not None and ttft.relative > 0.02
    assert gaps(found)["throughput.requests_per_s"].relative == pytest.approx(0, abs=0.01)


def test_single_runs_say_nothing_about_noise() -> None:
    found = compare([scenario(), scenario(rate=20)], seeds=1, executor=SERIAL)
    assert {gap.real for gap in gaps(found).values()} == {None}
    assert {gap.p for gap in gaps(found).values()} == {None}


def test_run_folders_are_taken_as_they_are_and_repeated_if_asked(tmp_path: Path) -> None:
    results = [simulate(scenario(rate)) for rate in (10, 12)]
    for name, result in zip("ab", results, strict=True):
        result.save(tmp_path / name)
    found = compare([tmp_path / "a", tmp_path / "b", tmp_path / "a"], executor=None)
    row = next(row for row in found.figures if row.figure.name == "latency.ttft_s.p99")
    assert row.means[:2] == pytest.approx([r.summary.latency.ttft_s.p99 for r in results], rel=1e-9)
    assert row.gaps[1] is not None and row.gaps[1].equal
    assert [path for path, _ in found.differences] == ["workload.arrivals.rate"]
    more = compare([tmp_path / "a", scenario(12)], seeds=2, executor=SERIAL)
    assert more.sides[0].seeds == (0, 1)
    assert more.sides[0].runs[0] == found.sides[0].runs[0]
    # The file's scenario is filled in as a run's is, so that only the rate differs.
    assert [path for path, _ in more.differences] == ["workload.arrivals.rate"]
    assert len({side.name for side in found.sides}) == 3


def test_a_run_that_was_interrupted_is_refused_unless_it_is_repeated(tmp_path: Path) -> None:
    simulate(scenario()).save(tmp_path / "a")
    file = tmp_path / "a" / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "complete": False}))
    with pytest.raises(InputError, match="partial"):
        compare([tmp_path / "a", scenario()], executor=SERIAL)
    assert compare([tmp_path / "a", scenario()], seeds=2, executor=SERIAL).differences == ()


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        compare([scenario()])
    with pytest.raises(InputError, match=r"no summary\.json"):
        compare([tmp_path, scenario()])
    with pytest.raises(InputError, match=r"latency\.ttft_s\.p9"):
        compare([scenario(), scenario()], seeds=1, figures=["latency.ttft_s.p9"], executor=SERIAL)
    with pytest.raises(InputError, match="refused"):
        tree = scenario().model_dump(mode="json")
        tree["cluster"]["pools"][0]["parallel"]["tensor"] = 3
        compare([scenario(), from_mapping(tree)], seeds=1, executor=SERIAL)


def test_false_alarms_come_as_often_as_stated() -> None:
    """Families of ten tests on figures that do not differ: at most one in twenty has an alarm at all."""
    random = np.random.default_rng(0)
    families, alarms = 200, 0
    for family in range(families):
        paired = family % 2 == 0
        common = random.normal(size=(10, 5)) if paired else 0
        first, second = (random.normal(10, 1, (10, 5)) + common for _ in range(2))
        tests = [p_value(list(a), list(b), paired=paired) for a, b in zip(first, second, strict=True)]
        alarms += min(holm([p for p in tests if p is not None])) <= 0.05
    assert alarms <= families * 0.05 + 3 * (families * 0.05 * 0.95) ** 0.5


def test_pairs_see_what_common_seeds_hide_from_others() -> None:
    first = [1.0, 2.0, 3.0, 4.0, 5.0]
    second = [1.11, 2.09, 3.10, 4.12, 5.08]
    paired, apart = (p_value(first, second, paired=pairs) for pairs in (True, False))
    assert paired is not None and apart is not None and paired < 0.001 < 0.5 < apart


def test_figures_without_spread_are_exact() -> None:
    assert p_value([1.0, 1.0], [1.0, 1.0], paired=True) == 1
    assert p_value([1.0, 1.0], [1.1, 1.1], paired=False) == 0
    assert p_value([1.0], [2.0], paired=True) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_an_interval_by_hand() -> None:
    """Three values with a standard deviation of 1: t(0.975, 2) = 4.303 over √3."""
    assert half_width([1.0, 2.0, 3.0], 0.95) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert half_width([1.0], 0.95) is None


def test_the_interval_of_a_difference_by_hand() -> None:
    first, second = [1.0, 2.0, 3.0], [2.0, 4.0, 3.0]
    # In pairs: gaps 1, 2, 0, whose deviation is 1; t(0.975, 2) = 4.3027.
    assert gap_half_width(first, second, 0.95, paired=True) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    # Welch: equal variances 1 and 3 values each give 4 degrees of freedom; t(0.975, 4) = 2.7764.
    assert gap_half_width(first, second, 0.95, paired=False) == pytest.approx(
        2.7764 * (2 / 3) ** 0.5, rel=1e-4
    )
    assert gap_half_width([1.0], [2.0], 0.95, paired=True) is None
    assert gap_half_width([1.0, 1.0], [2.0, 2.0], 0.95, paired=False) == 0.0


def test_a_difference_has_zero_in_its_interval_where_a_single_test_finds_nothing() -> None:
    found = compare([scenario(), scenario(seed=50)], executor=SERIAL)
    assert found.paired == (False,)
    for row in found.figures:
        values = [side.values(row.figure.name) for side in found.sides]
        gap = row.gaps[0]
        if gap is None or gap.interval is None or None in values:
            continue
        alone = p_value(values[0] or [], values[1] or [], paired=False)
        assert alone is not None
        low, high = gap.interval
        assert (low <= 0 <= high) == (alone >= 0.05 or low == high == 0)
