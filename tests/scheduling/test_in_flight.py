"""What pipelines and drafts change in the schedule, in small cases; who may run in that form."""

from __future__ import annotations

import pytest

from scheduling.drive import Drive
from tokensim.scheduling.local import ContinuousBatching, InFlightBatching, Limits, Request, Vllm, form_for
from tokensim.scheduling.local.flight import FlightStep
from tokensim.scheduling.local.speculation import Recorded, Sampled, Speculation


class ShortestFirst(ContinuousBatching):
    def admission_order(self, waiting: list[Request]) -> list[Request]:
        return sorted(waiting, key=lambda request: request.input_tokens)


class Reckless(ContinuousBatching):
    def run_length(self, step: object) -> int:
        return 7


def pipelined(**changes: object) -> InFlightBatching:
    options = {
        "num_gpu_blocks": 41,
        "block_size": 4,
        "enable_prefix_caching": False,
        "pipeline": 2,
        **changes,
    }
    limits = Limits(**options)  # type: ignore[arg-type]
    return form_for(Vllm, limits)(limits, exact_steps=True)  # type: ignore[no-any-return]


def ran(step: FlightStep) -> list[tuple[int, int, int]]:
    return [(row.request.index, row.tokens, row.before) for row in step.rows]


def test_a_request_whose_token_is_in_flight_is_left_out() -> None:
    scheduler = pipelined(async_scheduling=False)
    scheduler.add(Request(0, 0.0, 6, 5, 11))
    first, second = scheduler.schedule(0.0), scheduler.schedule(0.0)
    assert ran(first) == [(0, 6, 0)] and second.empty
    scheduler.update(first.index)
    assert ran(scheduler.schedule(0.0)) == [(0, 1, 6)]


def test_chunks_of_a_prompt_follow_each_other_through_the_pipeline() -> None:
    scheduler = pipelined(async_scheduling=False, max_num_batched_tokens=4, max_num_seqs=4)
    scheduler.add(Request(0, 0.0, 6, 5, 11))
    assert ran(scheduler.schedule(0.0)) == [(0, 4, 0)]
    assert ran(scheduler.schedule(0.0)) == [(0, 2, 4)]


def test_asynchronous_a_request_decodes_in_every_second_step_of_two_stages() -> None:
    scheduler = pipelined(async_scheduling=True)
    scheduler.add(Request(0, 0.0, 6, 3, 9))
    steps = [scheduler.schedule(0.0) for _ in range(3)]
    assert [ran(step) for step in steps] == [[(0, 6, 0)], [], [(0, 1, 6)]]  # before any output is known
    for step in steps:
        scheduler.update(step.index)
    assert scheduler.schedule(0.0).empty
    assert ran(scheduler.schedule(0.0)) == [(0, 1, 7)]  # its last: 6 + 3 tokens are then known


def test_a_preempted_request_waits_for_what_it_has_in_flight() -> None:
    # 3 blocks of 4 tokens: the second request needs a block that only the third one can give.
    scheduler = pipelined(async_scheduling=False, num_gpu_blocks=4, max_num_batched_tokens=4, max_num_seqs=4)
    for index in range(2):
        scheduler.add(Request(index, float(index), 4, 6, 10))
    first, second = scheduler.schedule(0.0), scheduler.schedule(0.0)
    scheduler.update(first.index)
    third = scheduler.schedule(0.0)  # request 0 takes the third block
    assert ran(third) == [(0, 1, 4)] and not third.preempted
    scheduler.update(second.index)
    fourth = scheduler.schedule(0.0)  # request 1 needs one too and can only push out itself
    assert [request.index for request, _ in fourth.preempted] == [1] and fourth.empty
    scheduler.check_integrity()


def speculating(recorded: tuple[int, ...], **changes: object) -> Drive:
    return Drive(exact_steps=True, speculation=Speculation(3, Recorded(recorded)), **changes)


def test_rejected_drafts_are_computed_again() -> None:
    drive = speculating((0, 2, 0, 0, 0, 3))  # by the number of outputs so far
    drive.add(5, 10)
    assert drive.steps(4) == [[[0, 5, 0]], [[0, 4, 5]], [[0, 4, 8]], [[0, 4, 9]]]


def test_a_budget_that_cuts_a_decode_cuts_its_drafts() -> None:
    drive = speculating((0,), max_num_batched_tokens=6, max_num_seqs=2)
    drive.add(3, 20), drive.add(3, 20)
    assert drive.steps(2) == [[[0, 3, 0], [1, 3, 0]], [[0, 4, 3], [1, 2, 3]]]
    assert isinstance(drive.last, FlightStep)
    assert [row.drafts for row in drive.last.rows] == [3, 1]


def test_drafts_end_where_the_context_does() -> None:
    drive = speculating((0,), max_model_len=10)
    drive.add(5, 20)
    assert drive.steps(5) == [[[0, 5, 0]], [[0, 4, 5]], [[0, 3, 6]], [[0, 2, 7]], [[0, 1, 8]]]


def test_an_eagle_like_drafter_costs_the_last_block_of_a_hit() -> None:
    for drops, hit in ((False, 8), (True, 4)):
        drive = Drive(
            exact_steps=True,
            enable_prefix_caching=True,
            speculation=Speculation(2, Sampled((0.0,)), lookahead=2, drops_last_block=drops),
        )
        drive.add(9, 2, run=1)
        drive.steps(5)
        drive.add(9, 2, run=1)
        assert drive.step().hits == [(1, hit)]


def test_slots_of_a_draft_model_count_for_every_request_of_a_step() -> None:
    limits = {"max_num_batched_tokens": 8, "max_num_seqs": 4}
    drive = Drive(exact_steps=True, speculation=Speculation(1, Sampled((0.0,)), slots=1), **limits)
    for _ in range(3):
        drive.add(3, 5)
    assert drive.step().ran == [[0, 3, 0], [1, 3, 0]]  # 4 of the 8 each, with the slot


def test_a_request_given_up_leaves_nothing_behind() -> None:
    drive = speculating((1,))
    request = drive.add(5, 10)
    drive.steps(3)
    drive.scheduler.remove(request)
    assert drive.free == 40 and not drive.scheduler.running
    drive.scheduler.check_integrity()


def test_a_policy_of_the_users_own_may_say_who_comes_first() -> None:
    limits = Limits(num_gpu_blocks=41, pipeline=2, max_num_seqs=1)
    policy = form_for(ShortestFirst, limits)
    assert issubclass(policy, InFlightBatching) and issubclass(policy, ShortestFirst)
    scheduler = policy(limits)
    for index, prompt in enumerate((9, 3)):
        scheduler.add(Request(index, 0.0, prompt, 4, prompt + 4))
    assert ran(scheduler.schedule(0.0)) == [(1, 3, 0)]
    assert form_for(ShortestFirst, Limits(num_gpu_blocks=41)) is ShortestFirst


@pytest.mark.parametrize("policy", [Reckless, object])
def test_a_policy_that_changes_more_is_refused(policy: type) -> None:
    with pytest.raises(TypeError, match="only continuous batching"):
        form_for(policy, Limits(num_gpu_blocks=41, pipeline=2))
