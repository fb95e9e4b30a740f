"""Nothing is lost: every request, token, block and gap between two tokens is accounted for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from axis import ConstantCost, run, simulation, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.engine import simulation as loop
from tokensim.errors import SimulationError
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import FINISHED, REQUEST_ROW, UNFINISHED
from tokensim.scheduling.local import ContinuousBatching, Step
from tokensim.workload import Workload

REQUESTS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=25
)  # (half seconds after the one before, output, prompt)
ENGINES = st.fixed_dictionaries(
    {
        "asynchronous": st.booleans(),
        "exact_steps": st.booleans(),
        "version": st.sampled_from(["0.19.0", "0.33.0"]),
        "instances": st.sampled_from([1, 1, 2]),
        "blocks": st.sampled_from([15, 20, 30, 200]),
        "max_num_seqs": st.sampled_from([1, 3, 20]),
        "max_num_batched_tokens": st.sampled_from([20, 60, 500]),
        "enable_prefix_caching": st.booleans(),
        "scheduling_policy": st.sampled_from(["fcfs", "priority"]),  # which may leave some out of a step
    }
)


def of_rows(rows: list[tuple[int, int, int]]) -> Workload:
    wait, outputs, prompts = zip(*rows, strict=True)
    urgency = np.arange(len(rows)) * 7 % 3
    return workload(list(np.cumsum(wait) / 2), outputs, prompts, priority=urgency)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, ENGINES)
def test_every_token_is_accounted_for(rows: list[tuple[int, int, int]], engine: dict[str, Any]) -> None:
    requests = of_rows(rows)
    made = simulation(requests, **engine)
    log = made.run()
    columns, steps, what = log.requests, log.steps, log.steps.what
    assert log.complete
    assert (columns.status == FINISHED).all()
    assert (columns.output_tokens == requests.output_tokens).all()
    assert (what.samples * what.steps).sum() == columns.output_tokens.sum()
    computed = steps.prefill_tokens.sum() + (what.decode * what.steps).sum()
    wanted = columns.input_tokens + columns.output_tokens - 1 - columns.cached_tokens
    assert computed == (wanted + columns.recomputed_tokens).sum()
    assert (columns.arrival_s <= columns.scheduled_s).all()
    assert (columns.scheduled_s < columns.first_token_s).all()
    assert (columns.first_token_s <= columns.finish_s).all()
    for instance in made.instances:
        instance.scheduler.check_integrity()
        assert instance.scheduler.pool.free == instance.scheduler.pool.num_blocks
        mine = steps.instance == instance.index
        assert (steps.start_s[mine][1:] >= steps.end_s[mine][:-1] - 1e-9).all(), "two steps at once"


@settings(max_examples=150, deadline=None)
@given(REQUESTS, ENGINES)
def test_the_gaps_between_tokens_are_what_lies_between_first_token_and_finish(
    rows: list[tuple[int, int, int]], engine: dict[str, Any]
) -> None:
    log = run(of_rows(rows), **engine)
    gaps = gaps_of(log)
    assert gaps.count == (log.requests.output_tokens - 1).sum()
    between = (log.requests.finish_s - log.requests.first_token_s).sum()
    assert gaps.total_s == pytest.approx(between, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_run_does_not_end_before_its_last_request(asynchronous: bool) -> None:
    log = run(workload([0.0, 1.5], [3, 2]), asynchronous=asynchronous)
    assert log.end_s >= log.requests.finish_s.max()
    assert log.end_s >= log.steps.end_s.max()


def test_the_gap_of_a_preempted_request_spans_its_absence() -> None:
    """Nine blocks of 4; two prompts of 16 hold eight, and in step 2 only one more is left.

    Request 1 is sent back then and prefills again in step 5, after request 0 has ended with step 4.
    """
    log = run(workload([0.0, 0.0], [4, 3], [16, 16]), blocks=9)
    assert log.requests.preemptions.tolist() == [0, 1]
    assert log.requests.recomputed_tokens.tolist() == [0, 16]
    assert log.requests.finish_s.tolist() == [4.0, 6.0]
    gaps = gaps_of(log)
    assert gaps.count == 3 + 2
    assert gaps.total_s == (1 + 1 + 1) + (4 + 1)
    assert gaps.quantile(1.0) == 4.0


def test_the_gap_of_a_request_that_was_left_out_of_a_step_spans_that_step() -> None:
    """The same story as in ``test_a_step_that_only_preempts…``, asynchronously: 1 sits out while 0 goes."""
    requests = workload([0.0, 0.5], [9, 9], [16, 13], priority=np.array([5, 0]))
    log = run(requests, asynchronous=True, version="0.23.0", blocks=9, scheduling_policy="priority")
    gaps = gaps_of(log)
    assert gaps.count == 8 + 8
    assert gaps.total_s == pytest.approx(
        (log.requests.finish_s - log.requests.first_token_s).sum(), rel=1e-12
    )
    assert gaps.quantile(15 / 16) == pytest.approx(1.001)  # the longest but that of the preempted one


def test_the_same_run_twice_is_the_same() -> None:
    requests = workload([0.3 * i for i in range(40)], [1 + i % 17 for i in range(40)])
    first, second = (run(requests, asynchronous=True, blocks=20) for _ in range(2))
    assert first.requests.finish_s.tobytes() == second.requests.finish_s.tobytes()
    assert first.steps.end_s.tobytes() == second.steps.end_s.tobytes()


class Interrupted:
    """Raises ``KeyboardInterrupt`` at the nth call."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def assert_told_once(log: RunLog, notes: bytearray) -> None:
    """Each request is finished by the end, or it is unfinished and has no finish; none is noted twice."""
    columns = log.requests
    finished = columns.status == FINISHED
    assert (columns.finish_s[finished] <= log.end_s).all()
    assert (columns.status[~finished] == UNFINISHED).all()
    assert np.isnan(columns.finish_s[~finished]).all()
    for times in (columns.arrival_s, columns.scheduled_s, columns.first_token_s):
        assert not (times > log.end_s).any(), "something happened after the end"
    noted = np.frombuffer(notes).reshape(-1, len(REQUEST_ROW))[:, REQUEST_ROW.index("index")]
    assert len(np.unique(noted)) == len(noted)


class TestCtrlC:
    requests = workload([0.5 * i for i in range(60)], [1 + i % 7 for i in range(60)])

    def test_gives_a_log_that_says_it_is_incomplete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "EVENTS_BETWEEN_LOOKS", 5)
        monkeypatch.setattr(loop, "SECONDS_BETWEEN_CALLS", -1.0)
        made = simulation(self.requests)
        log = made.run(Interrupted(5))
        assert not log.complete
        finished = log.requests.status == FINISHED
        assert 0 < finished.sum() < 60
        assert_told_once(log, made.recorder.requests)

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("exact_steps", [False, True])
    def test_may_come_at_any_moment(self, asynchronous: bool, exact_steps: bool) -> None:
        """Also in the middle of a decision."""
        done: list[int] = []
        for at in range(1, 1000):
            made = simulation(
                self.requests,
                asynchronous=asynchronous,
                exact_steps=exact_steps,
                blocks=20,
                cost=ConstantCost(on_step=Interrupted(at)),
            )
            log = made.run()
            if log.complete:
                break  # everything was priced before the interruption came
            assert_told_once(log, made.recorder.requests)
            done.append(int((log.requests.status == FINISHED).sum()))
        assert log.complete
        assert done == sorted(done) and done[-1] > 30 > done[0] == 0

    @pytest.mark.parametrize("spread_s", [0.5, 0.0])
    def test_progress_is_told_on_the_way(self, spread_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when all requests arrive at once and nothing but decisions follows."""
        monkeypatch.setattr(loop, "EVENTS_BETWEEN_LOOKS", 5)
        monkeypatch.setattr(loop, "SECONDS_BETWEEN_CALLS", -1.0)
        seen: list[int] = []
        requests = workload([spread_s * i for i in range(60)], [3] * 60)
        run(requests, max_num_seqs=2, progress=lambda now, done, total: seen.append(done))
        assert seen == sorted(seen)
        assert any(0 < done < 60 for done in seen)

    def test_after_the_end_leaves_everything_told(self) -> None:
        seen: list[tuple[float, int, int]] = []
        log = run(self.requests, progress=lambda now, done, total: seen.append((now, done, total)))
        assert log.complete
        assert seen[-1] == (log.end_s, 60, 60)


class TestStuck:
    def test_a_prompt_that_never_fits_is_reported_not_waited_for(self) -> None:
        with pytest.raises(SimulationError) as stuck:
            run(workload([0.0, 1.0], [2, 2], [4, 400]), blocks=10)
        message = str(stuck.value)
        assert "1 of 2 requests can never run" in message
        assert "instance 0 (Vllm): 0 running, 1 waiting" in message

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_policy_that_admits_nobody_is_reported(self, asynchronous: bool) -> None:
        class Lazy(ContinuousBatching):
            def _admit(self, step: Step, *_: object) -> None:
                return

        with pytest.raises(
            SimulationError, match=r"3 of 3 requests can never run.*\(Lazy\): 0 running, 3 waiting"
        ):
            run(workload([0.0, 0.5, 9.0], [2, 2, 2]), policy=Lazy, asynchronous=asynchronous)
