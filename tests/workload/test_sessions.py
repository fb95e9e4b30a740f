"""Synthetic sessions and what else a scenario says of its requests, worked out by hand and as properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import Workload, build_workload

CONSTANT = {"process": "constant", "rate": 1}
PLAIN: dict[str, Any] = {"arrivals": CONSTANT, "input_tokens": 100, "output_tokens": 10, "num_requests": 1000}


def make(seed: int = 0, **keys: Any) -> Workload:
    return build_workload(WorkloadSpec.model_validate(keys), seed, Path())


def sessions(seed: int = 0, more: dict[str, Any] | None = None, **keys: Any) -> Workload:
    """Two sessions of prompts of 100 tokens and answers of 10, unless told otherwise."""
    spec = {"arrivals": CONSTANT, "input_tokens": 100, "output_tokens": 10, **(more or {})}
    return make(seed, **spec, sessions={"count": 2, "rounds": 3, **keys})


def content(workload: Workload, i: int) -> list[tuple[int, int]]:
    s = workload.segments
    assert s is not None
    part = slice(s.offsets[i], s.offsets[i + 1])
    return list(zip(s.ids[part].tolist(), s.tokens[part].tolist(), strict=True))


def answer(workload: Workload, i: int) -> int:
    assert workload.segments is not None and workload.segments.output_ids is not None
    return int(workload.segments.output_ids[i])


def columns(workload: Workload, *names: str) -> list[list[Any]]:
    return [getattr(workload, name).tolist() for name in names]


class TestRounds:
    def test_a_prompt_is_all_that_was_said_and_something_new(self) -> None:
        w = sessions(think_time="2s")
        assert w.input_tokens.tolist() == [100, 210, 320] * 2
        assert w.output_tokens.tolist() == [10] * 6
        after, delay, session = columns(w, "after", "delay_s", "session")
        assert after == [-1, 0, 1, -1, 3, 4]
        assert delay == [0.0, 2.0, 2.0] * 2
        assert session == [0, 0, 0, 1, 1, 1]
        assert w.arrival_s.tolist() == [0.0] * 3 + [1.0] * 3

    def test_history_and_answers_keep_their_identity(self) -> None:
        w = sessions()
        first, second, third = (content(w, i) for i in range(3))
        assert second == [*first, (answer(w, 0), 10), second[-1]]
        assert third == [*second, (answer(w, 1), 10), third[-1]]
        assert answer(w, 2) == -1, "nobody asks again after the last round"
        assert not {i for i, _ in content(w, 5)} & {i for i, _ in third}, "sessions share nothing"

    def test_the_first_prompt_may_have_lengths_of_its_own(self) -> None:
        assert sessions(first_input_tokens=1000).input_tokens.tolist() == [1000, 1110, 1220] * 2

    def test_sessions_of_one_round_are_plain_requests(self) -> None:
        w = sessions(rounds=1)
        assert columns(w, "after", "input_tokens") == [[-1, -1], [100, 100]]

    def test_a_system_prompt_stands_in_front_of_every_session(self) -> None:
        w = sessions(more={"shared_prefix": {"tokens": 50}})
        assert w.input_tokens.tolist() == [150, 260, 370] * 2
        assert {content(w, i)[0] for i in range(6)} == {(0, 50)}
        assert content(w, 2)[1] != content(w, 5)[1]

    def test_a_session_ends_before_its_context_is_too_long(self) -> None:
        w = sessions(max_context=219)  # the second round has 210 + 10
        assert w.input_tokens.tolist() == [100, 100]
        assert w.notes == ("4 of 6 requests of sessions left out: beyond max_context",)
        assert len(sessions(max_context=220)) == 4

    def test_no_session_that_fits_is_refused(self) -> None:
        with pytest.raises(InputError, match="every session's first prompt"):
            sessions(max_context=50)

    def test_users_take_sessions(self) -> None:
        users = {"process": "closed-loop", "concurrency": 1, "think_time": "3s"}
        w = sessions(more={"arrivals": users})
        assert w.concurrency == 1
        assert w.think_s is not None
        assert w.think_s.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0, 0.0]


class TestBranches:
    def test_chains_go_on_from_the_first_answer_side_by_side(self) -> None:
        w = sessions(count=1, branches=2, think_time="1s")
        assert columns(w, "after")[0] == [-1, 0, 1, 0, 3]
        assert w.input_tokens.tolist() == [100, 210, 320, 210, 320]
        root = content(w, 0)
        for child in (1, 3):
            assert content(w, child)[:2] == [*root, (answer(w, 0), 10)]
        assert content(w, 1)[2] != content(w, 3)[2]
        assert content(w, 4)[:-2] == content(w, 3)
        assert content(w, 4)[-2] == (answer(w, 3), 10)

    def test_a_single_round_has_none(self) -> None:
        assert len(sessions(count=1, rounds=1, branches=5)) == 1


SPREAD = {"distribution": "uniform", "min": 1, "max": 40}


@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([None, 60, 150]),
    st.sampled_from([None, {"tokens": 7, "groups": 2, "share": 0.5}]),
)
@settings(max_examples=60, deadline=None)
def test_every_session_hangs_together(
    seed: int, rounds: int, branches: int, most: int | None, prefix: dict[str, Any] | None
) -> None:
    try:
        w = sessions(
            seed,
            {"input_tokens": SPREAD, "output_tokens": SPREAD, "shared_prefix": prefix},
            count=4,
            rounds={"distribution": "uniform", "min": 1, "max": rounds},
            branches={"distribution": "uniform", "min": 1, "max": branches},
            max_context=most,
        )
    except InputError as error:
        assert most is not None and "max_context" in str(error)
        return
    assert w.after is not None and w.segments is not None and w.session is not None
    assert (np.add.reduceat(w.segments.tokens, w.segments.offsets[:-1]) == w.input_tokens).all()
    assert (np.diff(w.arrival_s) >= 0).all()
    if most is not None:
        assert (w.input_tokens + w.output_tokens).max() <= most
    for i, above in enumerate(w.after.tolist()):
        assert above < i
        if above >= 0:
            history = [*content(w, above), (answer(w, above), int(w.output_tokens[above]))]
            assert content(w, i)[:-1] == history
            assert w.session[i] == w.session[above]


def test_the_same_seed_gives_the_same_sessions_and_another_one_others() -> None:
    def drawn(seed: int) -> list[list[Any]]:
        w = sessions(seed, {"input_tokens": SPREAD, "tenants": 3, "adapters": {"count": 4}})
        return columns(w, "input_tokens", "tenant", "adapter")

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


class TestTraits:
    def test_nothing_said_is_nothing_there(self) -> None:
        w = make(**PLAIN)
        for name in ("tenant", "priority", "deadline_s", "predicted_tokens", "adapter", "segments", "after"):
            assert getattr(w, name) is None

    def test_asking_for_more_does_not_move_what_was_there(self) -> None:
        lengths = {**PLAIN, "input_tokens": SPREAD, "arrivals": {"process": "poisson", "rate": 3}}
        plain, rich = make(**lengths), make(**lengths, tenants=2, adapters={"count": 3}, deadline="3s")
        assert columns(plain, "arrival_s", "input_tokens") == columns(rich, "arrival_s", "input_tokens")

    def test_tenants_and_priorities_come_by_weight(self) -> None:
        w = make(**PLAIN, tenants=[3, 1], priorities=[1, 0, 4])
        assert w.tenant is not None and w.priority is not None
        # 1,000 draws: standard deviations of 14 and 13
        assert np.bincount(w.tenant, minlength=2) == pytest.approx([750, 250], abs=60)
        assert np.bincount(w.priority, minlength=3) == pytest.approx([200, 0, 800], abs=60)

    def test_a_session_has_one_tenant_and_one_adapter(self) -> None:
        w = sessions(more={"tenants": 50, "adapters": {"count": 50}})
        assert w.tenant is not None and w.adapter is not None
        for column in (w.tenant, w.adapter):
            assert len(set(column[:3])) == len(set(column[3:])) == 1

    def test_adapters_by_popularity_and_some_without(self) -> None:
        w = make(**PLAIN, adapters={"count": 3, "zipf": 1.0, "share": 0.5})
        assert w.adapter is not None
        counts = np.bincount(w.adapter + 1, minlength=4)
        assert counts == pytest.approx([500, 500 * 6 / 11, 500 * 3 / 11, 500 * 2 / 11], abs=70)

    def test_deadlines_fixed_or_by_length(self) -> None:
        assert set(columns(make(**PLAIN, deadline="3s"), "deadline_s")[0]) == {3.0}
        by_length = {"fixed": 1, "per_input_token": "10ms", "per_output_token": "50ms"}
        assert set(columns(make(**PLAIN, deadline=by_length), "deadline_s")[0]) == {1 + 1.0 + 0.5}

    def test_predictions(self) -> None:
        def predicted(spec: Any, outputs: Any = 10) -> np.ndarray[Any, Any]:
            w = make(**{**PLAIN, "output_tokens": outputs}, predicted_tokens=spec)
            assert w.predicted_tokens is not None
            return w.predicted_tokens

        assert set(predicted("oracle")) == {10}
        assert set(predicted({"predictor": "constant", "value": 7})) == {7}
        assert set(predicted({"predictor": "bucket", "width": 8})) == {16}
        assert set(predicted({"predictor": "bucket", "width": 8}, 16)) == {16}
        noisy = predicted({"predictor": "lognormal", "sigma": 0.5}, 1000)
        assert np.median(noisy) == pytest.approx(1000, rel=0.1)
        assert np.log(noisy / 1000).std() == pytest.approx(0.5, rel=0.1)

    def test_a_shared_prefix_of_plain_requests(self) -> None:
        w = make(**PLAIN, shared_prefix={"tokens": 50, "groups": 2, "share": 0.5})
        assert np.isin(w.input_tokens, [100, 150]).all()
        have = np.array([len(content(w, i)) == 2 for i in range(len(w))])
        assert (w.input_tokens == np.where(have, 150, 100)).all()
        assert 440 < have.sum() < 560
        assert {content(w, i)[0] for i in np.flatnonzero(have)} == {(0, 50), (1, 50)}
        own = [content(w, i)[-1][0] for i in range(len(w))]
        assert len(set(own)) == len(w)

    def test_images_add_to_prompts(self) -> None:
        two = {"distribution": "fixed", "value": 2}
        w = make(**PLAIN, images={"tokens": 300, "per_request": two, "share": 0.5})
        assert w.encoder_tokens is not None and w.image_tokens == 300
        assert set(w.encoder_tokens) == {0, 600}
        assert (w.input_tokens == 100 + w.encoder_tokens).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sessions": {"rounds": 2}}, "num_requests does not go with sessions"),
        ({"sessions": {"rounds": 2}, "num_requests": None}, "exactly one of sessions.count and duration"),
        ({"sessions": {"rounds": 2, "count": 3, "pause": 1}, "num_requests": None}, "pause"),
        ({"shared_prefix": {"tokens": 5, "share": 0}}, "nobody has the prefix"),
        ({"tenants": 0}, "give 1 to 100,000"),
        ({"priorities": [0, 0]}, "at least one weight"),
        ({"deadline": 0}, "cannot be met"),
        ({"predicted_tokens": "prophet"}, "'oracle', 'constant', 'lognormal', 'bucket'"),
        ({"predicted_tokens": {"predictor": "constant"}}, "value"),
        ({"task": "embed"}, "output_tokens means nothing for task embed"),
        ({"task": "draw"}, "'generate', 'embed' or 'score'"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    spec = {key: value for key, value in {**PLAIN, **change}.items() if value is not None}
    with pytest.raises(ValidationError) as error:
        WorkloadSpec.model_validate(spec)
    assert says in str(error.value)


def test_a_trace_does_not_take_what_only_synthetic_requests_have() -> None:
    for key, value in (("sessions", {"rounds": 2, "count": 3}), ("images", {"tokens": 4})):
        with pytest.raises(ValidationError, match=f"{key} does not go with trace"):
            WorkloadSpec.model_validate({"trace": {"path": "t"}, key: value})
    with pytest.raises(ValidationError, match="task embed has no answers"):
        WorkloadSpec.model_validate({"trace": {"path": "t"}, "task": "embed"})
