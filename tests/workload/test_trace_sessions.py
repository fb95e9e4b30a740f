"""Traces that say which request follows which: the pauses, the answers in later prompts, other columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import Workload, build_workload


def load(path: Path, spec: dict[str, Any] | None = None, **trace: Any) -> Workload:
    section = {"trace": {"path": path.name, **trace}, **(spec or {})}
    return build_workload(WorkloadSpec.model_validate(section), 0, path.parent)


def write(folder: Path, rows: list[dict[str, Any]] | str) -> Path:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    path = folder / "trace"
    path.write_text(text)
    return path


def content(workload: Workload, i: int) -> list[tuple[int, int]]:
    s = workload.segments
    assert s is not None
    part = slice(s.offsets[i], s.offsets[i + 1])
    return list(zip(s.ids[part].tolist(), s.tokens[part].tolist(), strict=True))


def listed(column: Any) -> list[Any]:
    assert column is not None
    values: list[Any] = column.tolist()
    return values


def turn(chat: int, parent: int, time: float, tokens: tuple[int, int], ids: list[int]) -> dict[str, Any]:
    return {
        "chat_id": chat,
        "parent_chat_id": parent,
        "timestamp": time,
        "input_length": tokens[0],
        "output_length": tokens[1],
        "type": "text",
        "turn": 1,
        "hash_ids": ids,
    }


# Chat 7: 24 tokens in, 20 out (until 44), then 16 more. Chat 9 asks again from chat 7 and got another answer.
BAILIAN = [
    turn(7, -1, 0.0, (24, 20), [100, 101]),
    turn(3, -1, 1.0, (16, 4), [200]),
    turn(8, 7, 10.0, (60, 5), [100, 110, 111, 112]),
    turn(9, 7, 12.0, (60, 5), [100, 120, 121, 122]),
    turn(10, 8, 30.0, (70, 5), [100, 110, 111, 112, 113]),
]


class TestBailian:
    def test_without_sessions_every_turn_is_sent_at_its_time(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, BAILIAN))
        assert w.after is None and w.delay_s is None
        assert w.arrival_s.tolist() == [0, 1, 10, 12, 30]
        assert content(w, 2) == [(100, 16), (110, 16), (111, 16), (112, 12)]

    def test_a_turn_waits_for_its_parent_and_the_gap_between_them(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, BAILIAN), sessions=True)
        assert listed(w.after) == [-1, -1, 0, 0, 2]
        assert listed(w.delay_s) == [0, 0, 10, 12, 20]
        assert listed(w.session) == [0, 1, 0, 0, 0]

    def test_the_time_of_an_answer_is_no_pause(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, BAILIAN), sessions=True, answer_tpot="100ms", rate_scale=2.0)
        assert listed(w.delay_s) == pytest.approx([0, 0, 5 - 2, 6 - 2, 10 - 0.5])

    def test_the_answer_is_found_by_the_turn_whose_ids_go_on_from_it(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, BAILIAN), sessions=True)
        assert w.segments is not None and w.segments.output_ids is not None
        answer, second = w.segments.output_ids[0], w.segments.output_ids[2]
        first = content(w, 0)
        assert first == [(100, 16), (101, 8)]
        # 24 tokens of the prompt and 20 of the answer end within the block 111, of which 4 are left.
        assert content(w, 2) == [*first, (answer, 20), (111, 4), (112, 12)]
        # Of its own answer 5 tokens follow at 60 and end within block 113, the fifth.
        assert content(w, 4) == [*content(w, 2), (second, 5), (113, 5)]
        assert content(w, 3) == [(100, 16), (120, 16), (121, 16), (122, 12)], "another answer: as it was"
        assert listed(w.segments.output_ids)[1] == listed(w.segments.output_ids)[3] == -1
        sums = np.add.reduceat(w.segments.tokens, w.segments.offsets[:-1])
        assert (sums == w.input_tokens).all()

    def test_a_turn_whose_parent_is_cut_off_stands_alone(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, BAILIAN), sessions=True, start=5)
        assert listed(w.after) == [-1, -1, 0]
        assert listed(w.delay_s) == [0, 0, 20]

    def test_users_go_through_chats(self, tmp_path: Path) -> None:
        users = {"process": "closed-loop", "concurrency": 2, "think_time": "1s"}
        w = load(write(tmp_path, BAILIAN), {"arrivals": users}, sessions=True)
        assert (w.arrival_s == 0).all() and w.concurrency == 2
        assert listed(w.after) == [-1, -1, 0, 0, 2]

    def test_other_arrivals_are_those_of_chats(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, BAILIAN), {"arrivals": {"process": "constant", "rate": 1}}, sessions=True)
        assert w.names == ["7", "8", "9", "10", "3"]
        assert w.arrival_s.tolist() == [0, 0, 0, 0, 1]
        assert listed(w.after) == [-1, 0, 0, 1, -1]
        assert listed(w.delay_s) == [0, 10, 12, 20, 0]

    def test_single_draws_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="sessions are whole"):
            load(write(tmp_path, BAILIAN), sessions=True, resample=3)


def test_sharegpt_turns_follow_each_other_and_answers_stand_in_prompts(tmp_path: Path) -> None:
    says = [("human", "a" * 40), ("gpt", "b" * 20), ("human", "c" * 8), ("gpt", "d" * 4)]
    talk = {"conversations": [{"from": who, "value": text} for who, text in says]}
    path = write(tmp_path, json.dumps([talk, talk]))
    w = load(path, {"arrivals": {"process": "constant", "rate": 1}}, sessions=True)
    assert listed(w.after) == [-1, 0, -1, 2]
    assert w.arrival_s.tolist() == [0, 0, 1, 1]
    assert w.segments is not None and w.segments.output_ids is not None
    assert content(w, 1) == [*content(w, 0), (w.segments.output_ids[0], 5), content(w, 1)[-1]]


def test_burstgpt_sessions(tmp_path: Path) -> None:
    head = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    rows = "0,5,1,m,10,2,12,c\n3,6,1,m,10,2,12,c\n8,5,1,m,30,2,32,c\n"
    assert load(write(tmp_path, head + rows)).after is None
    w = load(write(tmp_path, head + rows), sessions=True)
    assert (listed(w.after), listed(w.delay_s)) == ([-1, -1, 0], [0, 0, 8])


class TestGeneric:
    HEAD = "arrival_s,input_tokens,output_tokens,"

    def test_a_session_column(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, self.HEAD + "session\n0,9,1,a\n1,9,1,\n2,9,1,a\n4,9,1,\n"), sessions=True)
        assert listed(w.after) == [-1, -1, 0, -1]
        assert listed(w.session) == [0, 1, 0, 2]

    def test_after_by_row_or_by_id_with_pauses_of_its_own(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, self.HEAD + "after,delay_s\n0,9,1,-1,0\n1,9,1,0,0.5\n"), sessions=True)
        assert (listed(w.after), listed(w.delay_s)) == ([-1, 0], [0.0, 0.5])
        rows = "0,9,1,,x\n1,9,1,,y\n2,9,1,x,z\n"
        w = load(write(tmp_path, self.HEAD + "after,request_id\n" + rows), sessions=True)
        assert (listed(w.after), listed(w.delay_s)) == ([-1, -1, 0], [0, 0, 2])

    def test_other_columns_come_through(self, tmp_path: Path) -> None:
        names = "tenant,deadline_s,predicted_tokens,adapter,priority"
        w = load(write(tmp_path, self.HEAD + names + "\n0,9,1,4,2.5,8,-1,3\n1,9,1,5,0.5,7,2,1\n"))
        assert listed(w.tenant) == [4, 5]
        assert listed(w.deadline_s) == [2.5, 0.5]
        assert listed(w.predicted_tokens) == [8, 7]
        assert listed(w.adapter) == [-1, 2]
        assert listed(w.priority) == [3, 1]

    @pytest.mark.parametrize(
        ("rows", "keys", "says"),
        [
            ("after\n0,9,1,-1\n1,9,1,5\n", {"sessions": True}, "'after' is 5, which is no row above"),
            ("after\n0,9,1,1\n1,9,1,-1\n", {"sessions": True}, "line 2: 'after' is 1"),
            ("delay_s\n0,9,1,-2\n", {}, "'delay_s' is negative"),
            ("priority\n0,9,1,2\n", {"sessions": True}, "does not say which requests belong together"),
            (
                "session,delay_s\n0,9,1,2,1\n",
                {"sessions": True, "answer_tpot": 1},
                "the trace has pauses of its own",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, tmp_path: Path, rows: str, keys: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(InputError) as error:
            load(write(tmp_path, self.HEAD + rows), **keys)
        assert says in str(error.value)

    def test_a_column_that_the_scenario_gives_too_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"workload\.tenants.*column 'tenant' of its own"):
            load(write(tmp_path, self.HEAD + "tenant\n0,9,1,2\n"), {"tenants": 3})

    def test_a_trace_may_get_what_it_lacks(self, tmp_path: Path) -> None:
        w = load(write(tmp_path, self.HEAD + "tenant\n0,9,1,2\n"), {"predicted_tokens": "oracle"})
        assert listed(w.predicted_tokens) == [1]
