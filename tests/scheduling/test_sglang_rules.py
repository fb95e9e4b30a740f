"""SGLang's characteristic rules in schedules that can be worked out by hand, walked and in closed form."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest

from tokensim.errors import InputError
from tokensim.memory import Content
from tokensim.scheduling.local import Limits, Request, Sglang, Step


class Row(NamedTuple):
    """One iteration: prefill rows [request, tokens, tokens before], decode rows, who was retracted, ended."""

    prefill: list[list[int]]
    decode: list[int]
    retracted: list[int]
    finished: list[int]


class Drive:
    """One instance; unless told otherwise 100 tokens in pages of one, chunks of 20, the normal loop."""

    def __init__(self, *, exact_steps: bool, tokens: int = 100, options: Any = (), **limits: Any) -> None:
        bounds: dict[str, Any] = {
            "block_size": 1,
            "max_num_seqs": 16,
            "max_num_batched_tokens": 20,
            "async_scheduling": False,
            **limits,
        }
        self.limits = Limits(num_gpu_blocks=tokens // bounds["block_size"], **bounds)
        self.scheduler = Sglang(self.limits, exact_steps=exact_steps, **dict(options))
        self.flying: Step | None = None
        self.last: Step
        self.number = 0

    def add(self, prompt: int, output: int, *, declared: int | None = None, runs: Any = None) -> Request:
        request = Request(self.number, 0.0, prompt, output, prompt + output)
        if runs is not None:
            request.content = Content.of_runs(runs, -1 - self.number)
        self.number += 1
        eos = declared is not None
        self.scheduler.enter(request, output if declared is None else declared, not eos)
        return request

    def step(self) -> Row:
        scheduler = self.scheduler
        self.last = step = scheduler.schedule(0.0)
        decode = [row.request.index for row in scheduler.batch.in_order()] if step.decode else []
        asynchronous = self.limits.async_scheduling
        done = self.flying if asynchronous else None if step.empty else step
        self.flying = None if step.empty else step
        finished = [r.index for r in scheduler.update(done.index)] if done is not None else []
        scheduler.check_integrity()
        prefill = [
            [request.index, *chunk] for request, chunk in zip(step.chunk_requests, step.chunks, strict=True)
        ]
        return Row(prefill, decode, [r.index for r, _ in step.preempted], finished)

    def decodes(self, steps: int) -> list[list[int]]:
        return [self.step().decode for _ in range(steps)]

    @property
    def memory(self) -> tuple[int, int, int]:
        """Tokens available, evictable, protected."""
        pool = self.scheduler.pool
        return pool.available, pool.evictable, pool.protected


New = partial[Drive]


@pytest.fixture(params=[True, False], ids=["walked", "aggregated"])
def new(request: pytest.FixtureRequest) -> New:
    return partial(Drive, exact_steps=request.param)


def test_a_prefill_runs_alone_and_decodes_wait(new: New) -> None:
    engine = new()
    engine.add(5, 9)
    assert engine.step() == Row([[0, 5, 0]], [], [], [])
    assert engine.step().decode == [0]
    engine.add(7, 9)
    assert engine.step() == Row([[1, 7, 0]], [], [], [])
    assert engine.last.paused == 1
    assert engine.step().decode == [0, 1]


def test_a_long_prompt_blocks_decoding_until_its_last_chunk(new: New) -> None:
    engine = new()
    engine.add(5, 9)
    engine.step()
    engine.add(45, 2)
    rows = [engine.step() for _ in range(4)]
    assert [row.prefill for row in rows] == [[[1, 20, 0]], [[1, 20, 20]], [[1, 5, 40]], []]
    assert rows[3].decode == [0, 1]


def test_with_mixed_chunks_decodes_join_and_take_from_the_chunk(new: New) -> None:
    engine = new(options={"enable_mixed_chunk": True})
    engine.add(5, 9)
    engine.step()
    engine.add(30, 2)
    row = engine.step()
    assert row == Row([[1, 19, 0]], [0], [], [])
    assert engine.step() == Row([[1, 11, 19]], [0], [], [])
    assert engine.step().decode == [1, 0], "the prefill stands before the decodes of its batch"


def test_admission_counts_all_that_was_declared_of_requests_that_ignore_eos(new: New) -> None:
    """100 tokens: 10 + 40 + 1 for the first; the second needs 10 + 40 + 1, and less than 50 would be left."""
    engine = new()
    engine.add(10, 40)
    engine.add(10, 40)
    assert engine.step().prefill == [[0, 10, 0]]
    assert engine.scheduler.batch.full


def test_admission_counts_a_share_of_it_for_others(new: New) -> None:
    """While nobody runs the first counts 40; next time 0.7 · 39, so the second fits."""
    engine = new()
    engine.add(10, 40, declared=40)
    engine.step()
    engine.add(10, 40, declared=40)
    assert engine.step().prefill == [[1, 10, 0]], "10 + 40 + 1 < 90 − 0.7 · 39"


def test_a_full_batch_admits_nobody_until_somebody_leaves_it(new: New) -> None:
    engine = new()
    engine.add(10, 40)
    engine.add(10, 60)
    engine.step()
    engine.add(2, 2)
    assert engine.decodes(5) == [[0]] * 5, "the small one waits behind the large one"
    row = engine.step()
    while not row.finished:
        row = engine.step()
    assert engine.step().prefill == [[1, 10, 0], [2, 2, 0]]


def overcommitted(new: New) -> tuple[Drive, list[Row]]:
    """Two requests in 55 tokens that will grow to 60, admitted on a share of 1 %; up to the retraction."""
    engine = new(tokens=55, options={"schedule_conservativeness": 0.02, "clip_max_new_tokens": 26})
    engine.add(5, 25, declared=48)
    engine.add(7, 25, declared=46)
    rows = [engine.step() for _ in range(2)]
    engine.add(38, 9)
    while not rows[-1].retracted:
        assert len(rows) < 99
        rows.append(engine.step())
    return engine, rows


def test_who_has_fewest_outputs_and_the_longest_prompt_is_retracted(new: New) -> None:
    engine, rows = overcommitted(new)
    assert [row.prefill for row in rows[:2]] == [[[0, 5, 0]], [[1, 7, 0]]]
    assert len(rows) == 2 + 22, "the 43 tokens beside the prompts last for 21 steps"
    assert rows[-1] == Row([], [0], [1], [])
    assert engine.scheduler.ratio.value == (22 + 20) / (48 + 1)


def test_a_retracted_request_goes_to_the_end_of_the_queue_and_is_prefilled_with_its_outputs(new: New) -> None:
    engine, _ = overcommitted(new)
    assert [request.index for request in engine.scheduler.waiting] == [2, 1]
    row = engine.step()
    while not any(index == 1 for index, _, _ in row.prefill):
        assert engine.scheduler.index < 99
        row = engine.step()
    assert row.prefill == [[1, 20, 0]], "the first of 7 + 22 tokens"
    assert engine.step().prefill == [[1, 9, 20]]


def test_a_prompt_can_be_found_only_after_its_prefill(new: New) -> None:
    engine = new(max_num_batched_tokens=100)
    same = [(7, 10)]
    engine.add(10, 5, runs=same)
    engine.add(10, 5, runs=same)
    assert engine.step().prefill == [[0, 10, 0], [1, 10, 0]], "both in one batch: neither finds the other"
    assert engine.memory == (90, 0, 10), "the second copy is given back at once"
    engine.add(10, 5, runs=same)
    assert engine.step().prefill == [[2, 1, 9]], "all but the last token"


def test_what_a_request_leaves_can_be_found_and_evicted(new: New) -> None:
    engine = new()
    engine.add(10, 3, runs=[(7, 10)])
    rows = [engine.step() for _ in range(3)]
    assert [row.finished for row in rows] == [[], [], [0]]
    assert engine.memory == (88, 12, 0), "prompt and two outputs; the last output has no KV"
    engine.add(90, 3)
    for _ in range(5):
        engine.step()
    assert engine.memory[1] == 10, "the outputs went first"


def test_without_a_cache_nothing_stays(new: New) -> None:
    engine = new(enable_prefix_caching=False)
    engine.add(10, 3, runs=[(7, 10)])
    for _ in range(3):
        engine.step()
    assert engine.memory == (100, 0, 0)


def test_pages_are_taken_whole_and_tokens_of_a_part_stay_private(new: New) -> None:
    engine = new(block_size=4)
    engine.add(10, 9)
    engine.step()
    assert engine.memory == (88, 0, 8), "three pages, of which two are full and in the tree"
    engine.decodes(2)
    assert engine.memory[0] == 88
    engine.step()
    assert engine.memory[0] == 84


def test_the_overlap_loop_leaves_out_who_ends_by_length_but_runs_on_past_eos(new: New) -> None:
    engine = new(async_scheduling=True)
    engine.add(5, 3)
    engine.add(5, 3, declared=9)
    rows = [engine.step() for _ in range(5)]
    assert [row.decode for row in rows] == [[], [0, 1], [0, 1], [1], []]
    assert rows[3].finished == [0, 1]
    assert engine.last.empty and rows[4].finished == []


def test_an_extra_row_past_eos_is_idle(new: New) -> None:
    engine = new(async_scheduling=True)
    engine.add(5, 2, declared=9)
    engine.add(5, 9)
    engine.step()
    assert engine.step().decode == [0, 1]
    assert engine.last.idle == 0
    assert engine.step().decode == [0, 1]
    assert engine.last.idle == 1
    assert engine.step().decode == [1]


def test_lpm_serves_the_longest_hit_first_and_puts_off_the_like_of_a_miss(new: New) -> None:
    engine = new(tokens=1000, max_num_batched_tokens=500, options={"schedule_policy": "lpm"})
    engine.add(50, 1, runs=[(1, 50)])
    engine.step()
    engine.add(40, 2, runs=[(2, 40)])
    engine.add(40, 2, runs=[(2, 40)])
    engine.add(60, 2, runs=[(1, 50), (3, 10)])
    assert [row[0] for row in engine.step().prefill] == [3, 1, 2]


def test_lof_serves_the_longest_declared_output_first(new: New) -> None:
    engine = new(max_num_batched_tokens=500, options={"schedule_policy": "lof"})
    for output in (3, 9, 5):
        engine.add(5, output)
    assert [row[0] for row in engine.step().prefill] == [1, 2, 0]


def test_iterations_without_prefill_after_each_one(new: New) -> None:
    engine = new(options={"prefill_decode_interval": 2})
    engine.add(5, 9)
    engine.step()
    engine.add(5, 9)
    assert [engine.step().decode for _ in range(3)] == [[0], [0], []]
    assert engine.last.chunks


def test_a_prompt_of_many_chunks_alone_spends_the_interval_on_nothing(new: New) -> None:
    engine = new(options={"prefill_decode_interval": 2})
    engine.add(30, 2)
    engine.step()
    for _ in range(2):
        engine.step()
        assert engine.last.empty and engine.last.again
    assert engine.step().prefill == [[0, 10, 20]]


def test_no_more_requests_in_a_prefill_than_asked(new: New) -> None:
    engine = new(options={"prefill_max_requests": 2})
    for _ in range(3):
        engine.add(3, 9)
    assert [len(engine.step().prefill) for _ in range(2)] == [2, 1]


def test_outputs_are_cut_to_what_the_pool_holds(new: New) -> None:
    request = new(tokens=50).add(10, 100)
    assert request.length == 10 + 50 - 10 - 1 - 1


def test_a_prompt_too_long_for_the_pool_is_rejected_from_six_tokens_before_its_end(new: New) -> None:
    assert new(tokens=50).scheduler.rejects_from(1000) == 50 - 1 - 5
    assert new(tokens=50, max_model_len=30).scheduler.rejects_from(30) == 30 - 1 - 5


def test_a_run_of_decodes_ends_where_memory_does() -> None:
    engine = Drive(exact_steps=False, tokens=40, options={"clip_max_new_tokens": 10})
    for _ in range(2):
        engine.add(5, 30, declared=40)
    engine.step()
    engine.step()
    assert engine.scheduler.run_length(engine.last) == 15, "30 tokens for two, of which this step has taken 2"


def test_a_run_evicts_what_its_steps_would_have_evicted() -> None:
    one, other = Drive(exact_steps=False), Drive(exact_steps=True)
    for engine in (one, other):
        for run in range(4):
            engine.add(15, 2, runs=[(run, 15)])
            for _ in range(2):
                engine.step()
        engine.add(10, 60)
        engine.step()
    step = one.scheduler.schedule(0.0)
    assert one.scheduler.run_length(step) == 59
    one.scheduler.advance(40)
    one.scheduler.update(step.index + 40)
    other.decodes(41)
    assert one.memory == other.memory
    assert one.scheduler.ratio.value == other.scheduler.ratio.value


def test_another_version_is_refused() -> None:
    with pytest.raises(InputError, match=r"SGLang 0\.4\.9 are not modelled"):
        Sglang(Limits(num_gpu_blocks=10), "0.4.9")


def test_kv_of_a_request_that_leaves_stays_until_it_is_released(new: New) -> None:
    engine = new()
    request = engine.add(5, 9)
    engine.step()
    engine.step()
    engine.scheduler.remove(request, keep=True)
    assert (request.tokens, request.computed) == (7, 6)
    assert list(engine.scheduler.holding) == [request] and engine.memory == (94, 0, 6)
    engine.scheduler.release(request)
    assert not engine.scheduler.rows and engine.memory == (94, 6, 0)
    engine.scheduler.check_integrity()


def test_a_request_that_leaves_without_its_kv_frees_it(new: New) -> None:
    engine = new()
    request = engine.add(5, 9)
    engine.step()
    engine.scheduler.remove(request)
    assert request.tokens == 6 and engine.memory == (95, 5, 0)
