"""LoRA adapters in the local scheduler: who is passed over, and what is swapped; worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from drive import Drive

from tokensim.scheduling.local import Request
from tokensim.scheduling.local.adapters import Adapters
from tokensim.scheduling.local.request import Traits

COPY_S, READ_S = 1.0, 10.0
BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])


def engine(max_loras: int, max_cpu_loras: int = 9, **options: Any) -> Drive:
    drive = Drive(**options)
    drive.scheduler.adapters = Adapters(max_loras, max_cpu_loras, COPY_S, READ_S)
    return drive


def add(drive: Drive, adapter: int, prompt: int = 8, output: int = 4, **options: Any) -> Request:
    """A request for ``adapter``; the queue sees it with its traits."""
    add_ = drive.scheduler.add
    drive.scheduler.add = lambda request: None  # type: ignore[assignment, method-assign, return-value]
    request = drive.add(prompt, output, **options)
    drive.scheduler.add = add_  # type: ignore[method-assign]
    request.traits = Traits(adapter=adapter)
    add_(request)
    return request


@BOTH
def test_an_adapter_too_many_is_passed_over_and_keeps_its_place(exact_steps: bool) -> None:
    drive = engine(2, exact_steps=exact_steps)
    for adapter in (0, 1, 2, 1, -1, 3):
        add(drive, adapter)
    assert drive.step().admitted == [0, 1, 3, 4], "a third adapter waits; the base model needs no slot"
    assert drive.last.adapters == 2
    assert drive.waiting == [2, 5]
    drive.steps(2)
    assert drive.step().finished == [0, 1, 3, 4]
    assert drive.step().admitted == [2, 5]
    assert drive.waiting == []


@BOTH
def test_a_slot_is_free_with_the_last_of_its_requests(exact_steps: bool) -> None:
    drive = engine(1, exact_steps=exact_steps)
    add(drive, 0, output=2)
    add(drive, 0, output=4)
    add(drive, 1, output=1)
    assert [drive.step().admitted for _ in range(5)] == [[0, 1], [], [], [], [2]]


@BOTH
def test_with_asynchronous_scheduling_a_slot_is_free_after_the_last_token_is_scheduled(
    exact_steps: bool,
) -> None:
    drive = engine(1, exact_steps=exact_steps, async_scheduling=True)
    add(drive, 0, output=2)
    add(drive, 1, output=1)
    rows = [drive.step() for _ in range(4)]
    assert [row.admitted for row in rows] == [[0], [], [1], []]
    assert [row.finished for row in rows] == [[], [], [0], [1]], "its last token was in flight then"


@BOTH
def test_a_preempted_request_gives_its_slot_back(exact_steps: bool) -> None:
    drive = engine(2, exact_steps=exact_steps, blocks=6)
    add(drive, 0, prompt=11, output=9)
    add(drive, 1, prompt=11, output=9)
    assert drive.step().admitted == [0, 1]
    preempted = next(row.preempted for row in (drive.step() for _ in range(9)) if row.preempted)
    assert preempted == [1]
    assert drive.scheduler.adapters is not None
    assert drive.scheduler.adapters.active == {0: 1}


@BOTH
def test_priority_puts_the_passed_over_back_in_order(exact_steps: bool) -> None:
    drive = engine(1, exact_steps=exact_steps, scheduling_policy="priority")
    for adapter, priority in ((0, 0), (1, 1), (2, 0), (0, 5)):
        add(drive, adapter, priority=priority, output=1)
    assert drive.step().admitted == [0, 3]
    assert drive.step().admitted == [2]
    assert drive.step().admitted == [1]


@BOTH
def test_a_step_waits_for_the_adapters_that_come(exact_steps: bool) -> None:
    drive = engine(2, max_cpu_loras=3, exact_steps=exact_steps)

    def stall(*adapters: int) -> float:
        for adapter in adapters:
            add(drive, adapter, output=1)
        drive.step()
        return drive.last.stall_s

    assert stall(0) == READ_S + COPY_S, "from disk"
    assert stall(0) == 0.0, "still in its slot"
    assert stall(1, -1) == READ_S + COPY_S
    assert stall(0) == 0.0
    assert stall(2) == READ_S + COPY_S, "in the slot of 1, used less recently than 0"
    assert stall(1) == COPY_S, "1 is in host memory still; 0 leaves its slot"
    assert stall(3) == READ_S + COPY_S, "host memory held 0, 1, 2: the least recently used is 0"
    assert stall(0) == READ_S + COPY_S
    assert stall(3, 0) == 0.0


def test_an_arrival_that_must_wait_for_a_slot_changes_no_decision() -> None:
    drive = engine(1, exact_steps=False)
    add(drive, 0, output=50)
    drive.step()
    scheduler = drive.scheduler
    blocked = Request(7, 0.0, 8, 4, 12)
    blocked.traits = Traits(adapter=1)
    assert not scheduler.add(blocked)
    step = scheduler.schedule(0.0)
    assert scheduler.run_length(step) == 49, "until the slot is free, whoever waits for it"
    same = Request(8, 0.0, 8, 4, 12)
    same.traits = Traits(adapter=0)
    assert scheduler.add(same), "it may overtake"
