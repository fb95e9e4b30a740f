"""A session measures the coarse grid, refines where interpolation is worst, checks, and can be ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_bench import FakeBench, roofline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.profiling.bench import DeviceLost
from tokensim.profiling.lines import Line, Point, interpolated
from tokensim.profiling.plan import Plan
from tokensim.profiling.session import Outcome, Progress, Session
from tokensim.profiling.shapes import Shape
from tokensim.profiling.store import STORE_FILE, Store

GEMM = Shape.of("gemm", dtype="bfloat16", n=4096, k=4096)
LINE = Line(GEMM, "m", (1, 16, 256, 4096))
PLAN = Plan("one GEMM", (LINE,))


def run(
    bench: FakeBench, folder: Path, plan: Plan = PLAN, *, resume: bool = False, **options: float
) -> Outcome:
    with Store(folder / STORE_FILE, bench.facts.identity, resume=resume) as store:
        session = Session(bench, plan, store, estimates=bench.estimates(), clock=bench.clock, **options)
        try:
            return session.run()
        except KeyboardInterrupt:
            return session.outcome("interrupted")


def line_of(bench: FakeBench, line: Line = LINE) -> list[Point]:
    xs = sorted({s[line.axis] for s in bench.asked if s.without(line.axis) == line.shape})
    return [Point(x, bench._seconds(line.at(x))) for x in xs]


def test_a_roofline_is_found_with_few_points(tmp_path: Path) -> None:
    bench = FakeBench()
    outcome = run(bench, tmp_path, target=0.05)
    assert outcome.complete
    assert outcome.ended == "done"
    assert len(bench.asked) == outcome.measured <= 10
    assert outcome.error is not None and outcome.error <= 0.05
    assert outcome.checks and max(outcome.checks) <= 0.05


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    launch=st.floats(1e-6, 1e-3),
    slope=st.floats(1e-9, 1e-5),
    fixed=st.floats(1e-6, 1e-2),
    soft=st.floats(1.0, 8.0),
    xs=st.lists(st.integers(1, 8192), min_size=20, max_size=20),
)
def test_interpolation_is_as_good_as_was_asked_for(
    tmp_path_factory: pytest.TempPathFactory,
    launch: float,
    slope: float,
    fixed: float,
    soft: float,
    xs: list[int],
) -> None:
    """On any mix of a launch, traffic of weights and arithmetic, with a corner as soft as may be."""

    def seconds(shape: Shape) -> float:
        m = shape["m"]
        return launch + float((fixed**soft + (slope * m) ** soft) ** (1.0 / soft))

    line = Line(GEMM, "m", (1, 4, 16, 64, 256, 1024, 8192))
    bench = FakeBench(seconds)
    outcome = run(bench, tmp_path_factory.mktemp("session"), Plan("", (line,)), target=0.05)
    assert outcome.complete
    known = line_of(bench, line)
    for x in xs:
        true = seconds(line.at(x))
        assert abs(interpolated(known, x, "time") / true - 1.0) <= 0.05


def test_the_largest_error_comes_first(tmp_path: Path) -> None:
    smooth = Line(Shape.of("gemm", dtype="bfloat16", n=64, k=64), "m", (1, 16, 256, 4096))

    def seconds(shape: Shape) -> float:
        m = shape["m"]
        return 1e-3 + 1e-6 * m if shape["n"] == 64 else max(1e-3, 1e-5 * m)

    bench = FakeBench(seconds)
    run(bench, tmp_path, Plan("", (smooth, LINE)), target=0.05)
    assert bench.asked[8]["n"] == 4096
    assert 90 < bench.asked[8]["m"] < 110  # the corner is at 100


def test_a_kernel_that_steps_is_refined_after_a_failed_check(tmp_path: Path) -> None:
    """Tiles of 512 rows: the coarse grid, at multiples of them, shows a straight line."""

    def seconds(shape: Shape) -> float:
        return 1e-3 * -(-shape["m"] // 512)

    line = Line(GEMM, "m", (512, 2048, 8192))
    bench = FakeBench(seconds)
    outcome = run(bench, tmp_path, Plan("", (line,)), target=0.05, budget_s=100.0)
    assert len(bench.asked) > 10
    known = line_of(bench, line)
    errors = [abs(interpolated(known, x, "time") / seconds(line.at(x)) - 1) for x in range(512, 8192, 7)]
    coarse = [point for point in known if point.x in line.coarse]
    before = [abs(interpolated(coarse, x, "time") / seconds(line.at(x)) - 1) for x in range(512, 8192, 7)]
    assert sum(errors) < 0.5 * sum(before)
    assert outcome.measured == len(known)


def test_a_budget_ends_it_with_what_there_is(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=1.0)
    outcome = run(bench, tmp_path, target=0.001, budget_s=6.0)
    assert not outcome.complete
    assert outcome.ended == "time is up"
    assert bench.now_s <= 7.0
    assert outcome.measured == len(bench.asked) > 4


def test_time_that_does_not_suffice_for_the_coarse_grid_goes_to_the_quick_shapes(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=1.0)
    outcome = run(bench, tmp_path, budget_s=2.0)
    assert not outcome.complete
    assert outcome.error is not None
    assert [shape["m"] for shape in bench.asked] == [1, 16]


def test_an_interrupted_session_goes_on_where_it_was(tmp_path: Path) -> None:
    first = FakeBench(interrupt_after=5)
    outcome = run(first, tmp_path, target=0.02)
    assert outcome.ended == "interrupted" and not outcome.complete
    second = FakeBench()
    assert run(second, tmp_path, resume=True, target=0.02).complete
    assert not set(first.asked) & set(second.asked)
    whole = FakeBench()
    (tmp_path / "whole").mkdir()
    run(whole, tmp_path / "whole", target=0.02)
    assert set(first.asked) | set(second.asked) == set(whole.asked)
    third = FakeBench()
    assert run(third, tmp_path, resume=True, target=0.02).complete
    assert third.asked == []


def test_a_line_cut_off_by_the_end_of_a_process_is_measured_again(tmp_path: Path) -> None:
    run(FakeBench(interrupt_after=3), tmp_path)
    file = tmp_path / STORE_FILE
    file.write_bytes(file.read_bytes()[:-10])
    second = FakeBench()
    assert run(second, tmp_path, resume=True).complete
    assert len(file.read_bytes().splitlines()) == 1 + len(second.asked) + 2


def test_measurements_are_not_overwritten_unasked(tmp_path: Path) -> None:
    run(FakeBench(), tmp_path)
    with pytest.raises(InputError, match=r"--resume"):
        run(FakeBench(), tmp_path)


def test_measurements_of_another_device_are_refused(tmp_path: Path) -> None:
    run(FakeBench(), tmp_path)
    with pytest.raises(InputError, match=r"Fake One; driver 1\.2"):
        run(FakeBench(identity="Fake One; driver 1.3"), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"kind"', "seconds: 3"),
        ('"gemm"', '"zzz"'),
        ('"m": 1,', '"m": "one",'),
        ('"m": 1,', '"m": 1, "rows": 2,'),
        ('"coarse"', '"fine"'),
        ('"seconds": ', '"seconds": -'),
        ('"seconds": ', '"seconds": "abc", "x": '),
        ('"seconds": ', '"seconds": NaN, "cost_s": '),
    ],
)
def test_a_changed_file_is_refused_with_its_line(old: str, new: str, tmp_path: Path) -> None:
    run(FakeBench(), tmp_path)
    file = tmp_path / STORE_FILE
    lines = file.read_text().splitlines(keepends=True)
    assert old in lines[1]
    file.write_text("".join([lines[0], lines[1].replace(old, new), *lines[2:]]))
    with pytest.raises(InputError, match=r":2: is not a line"):
        run(FakeBench(), tmp_path, resume=True)


def test_what_cannot_be_measured_is_left_with_its_reason(tmp_path: Path) -> None:
    bench = FakeBench(refuse=lambda shape: "out of memory" if shape["m"] > 1000 else "")
    outcome = run(bench, tmp_path)
    assert outcome.complete
    assert outcome.refused == {"out of memory": 1}
    assert outcome.measured == len(bench.asked) - 1


def test_a_place_that_is_refused_is_not_asked_for_again(tmp_path: Path) -> None:
    bench = FakeBench(refuse=lambda shape: "no" if shape["m"] not in LINE.coarse else "")
    run(bench, tmp_path)
    assert len(bench.asked) == len(set(bench.asked))


def test_what_was_refused_is_tried_again_when_the_session_goes_on(tmp_path: Path) -> None:
    run(FakeBench(refuse=lambda shape: "out of memory" if shape["m"] == 4096 else ""), tmp_path)
    again = FakeBench()
    outcome = run(again, tmp_path, resume=True)
    assert LINE.at(4096) in again.asked
    assert outcome.complete and outcome.refused == {}
    third = FakeBench()
    run(third, tmp_path, resume=True)
    assert third.asked == []


def test_a_session_that_measures_nothing_is_not_complete(tmp_path: Path) -> None:
    outcome = run(FakeBench(refuse=lambda shape: "out of memory"), tmp_path)
    assert not outcome.complete
    assert outcome.ended == "nothing could be measured"


def test_a_device_that_is_lost_ends_it_without_a_refusal(tmp_path: Path) -> None:
    def seconds(shape: Shape) -> float:
        if shape["m"] == 256:
            raise DeviceLost("an illegal memory access")
        return roofline(shape)

    outcome = run(FakeBench(seconds), tmp_path)
    assert not outcome.complete
    assert outcome.ended == "an illegal memory access"
    assert outcome.measured == 2 and outcome.refused == {}
    assert run(FakeBench(), tmp_path, resume=True).complete


def test_the_budget_counts_from_when_the_command_began(tmp_path: Path) -> None:
    bench = FakeBench(cost_s=1.0)
    bench.now_s = 4.0  # the device's rates took so long
    assert run(bench, tmp_path, target=0.001, budget_s=6.0, began=0.0).elapsed_s <= 7.0
    assert bench.now_s <= 7.0


def test_what_a_point_needs_beside_it_is_measured_with_it(tmp_path: Path) -> None:
    prefill = Shape.of("prefill_attention", kv_dtype="bfloat16", heads=8, kv_heads=8, head_dim=64)
    prefill = prefill.at(window=0, cached=0)

    def full(tokens: int) -> tuple[Shape, ...]:
        return (prefill.at(batch=4, tokens=tokens),)

    line = Line(prefill.at(batch=1), "tokens", (16, 256, 4096), "time", full)
    bench = FakeBench()
    run(bench, tmp_path, Plan("", (line,)))
    lengths = {batch: {s["tokens"] for s in bench.asked if s["batch"] == batch} for batch in (1, 4)}
    assert lengths[1] == lengths[4] > {16, 256, 4096}


def test_a_noisy_measurement_is_made_once_more(tmp_path: Path) -> None:
    class Noisy(FakeBench):
        def measure(self, shape: Shape) -> object:  # type: ignore[override]
            from dataclasses import replace

            measured = super().measure(shape)
            return replace(measured, noise=0.5 if self.asked.count(shape) == 1 else 0.0)

    bench = Noisy()
    outcome = run(bench, tmp_path)
    assert outcome.noisy == 0
    assert all(bench.asked.count(shape) == 2 for shape in bench.asked)


def test_progress_says_what_is_left(tmp_path: Path) -> None:
    said: list[Progress] = []
    bench = FakeBench()
    with Store(tmp_path / STORE_FILE, "x", resume=False) as store:
        Session(bench, PLAN, store, estimates=bench.estimates(), progress=said.append).run()
    assert [now.left for now in said[:4]] == [3, 2, 1, 0]
    assert [now.done for now in said] == list(range(1, len(said) + 1))
    assert said[0].left_s > said[2].left_s > 0.0
    assert {now.phase for now in said} == {"coarse grid", "refining", "checking"}


def test_estimates_learn_from_what_measuring_took() -> None:
    estimates = FakeBench().estimates()
    shape = LINE.at(256)
    before = estimates.seconds(shape)
    estimates.learn(shape, 3.0 * before)
    assert estimates.seconds(shape) == pytest.approx(3.0 * before)
    assert estimates.seconds(LINE.at(4096)) > estimates.seconds(LINE.at(1))


def test_the_fake_device_is_a_roofline() -> None:
    assert roofline(LINE.at(4096)) == pytest.approx(2e-6 + 2 * 4096**3 / 1e12)
