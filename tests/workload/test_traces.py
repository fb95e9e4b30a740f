"""Trace readers: every format from small files in its true layout, and the real traces whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import Workload, build_workload

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8"
)
MOONCAKE = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
    {"timestamp": 1500, "input_length": 1024, "output_length": 6, "hash_ids": [0, 2]},
    {"timestamp": 1500, "input_length": 100, "output_length": 7, "hash_ids": [3]},
]
POISSON = {"process": "poisson", "rate": 5}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, content: str | bytes, name: str = "trace") -> str:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def load(path: Path, seed: int = 0, spec: dict[str, Any] | None = None, **trace: Any) -> Workload:
    section = {"trace": {"path": path.name, **trace}, **(spec or {})}
    return build_workload(WorkloadSpec.model_validate(section), seed, path.parent)


def content(workload: Workload, i: int) -> list[tuple[int, int]]:
    s = workload.segments
    assert s is not None
    part = slice(s.offsets[i], s.offsets[i + 1])
    return list(zip(s.ids[part].tolist(), s.tokens[part].tolist(), strict=True))


def check_segments(workload: Workload) -> None:
    s = workload.segments
    assert s is not None
    assert len(s.offsets) == len(workload) + 1
    assert (np.add.reduceat(s.tokens, s.offsets[:-1]) == workload.input_tokens).all()
    assert s.tokens.min() > 0
    assert s.ids.min() >= 0


# --- formats ---


def test_azure_2023(tmp_path: Path) -> None:
    workload = load(tmp_path / write(tmp_path, AZURE))
    assert workload.arrival_s.tolist() == [0.0, 0.052]
    assert workload.input_tokens.tolist() == [4808, 3180]
    assert workload.output_tokens.tolist() == [10, 8]
    assert workload.segments is None


def test_azure_2024_with_time_zones_and_whole_seconds(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 00:00:01+00:00,2399,6\n2024-05-10 02:00:01.500000+02:00,76,15\n"
    )
    assert load(tmp_path / write(tmp_path, text)).arrival_s.tolist() == [0.0, 0.99007, 1.49007]


def test_burstgpt_drops_and_counts_failed_requests(tmp_path: Path) -> None:
    text = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,API log\n"
        "118,GPT-4,417,276,693,Conversation log\n120,GPT-4,0,0,0,Conversation log\n"
    )
    workload = load(tmp_path / write(tmp_path, text))
    assert workload.arrival_s.tolist() == [0.0, 113.0]
    assert workload.output_tokens.tolist() == [18, 276]
    assert any(note.startswith("2 of 4 rows dropped") for note in workload.notes)


def test_burstgpt_2_has_more_columns_and_empty_sessions(tmp_path: Path) -> None:
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "10444800.25,,3.5,GPT-4,10,20,30,API log\n10444801.75,7,1.5,GPT-4,11,21,32,Conversation log\n"
    )
    assert load(tmp_path / write(tmp_path, text)).arrival_s.tolist() == [0.0, 1.5]


def test_mooncake_blocks_are_512_tokens_and_the_last_what_is_left(tmp_path: Path) -> None:
    workload = load(tmp_path / write(tmp_path, lines(MOONCAKE)))
    assert workload.arrival_s.tolist() == [0.0, 1.5, 1.5]
    assert content(workload, 0) == [(0, 512), (1, 488)]
    assert content(workload, 1) == [(0, 512), (2, 512)]
    assert content(workload, 2) == [(3, 100)]


def test_mooncake_without_hashes_shares_nothing(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "hash_ids"} for row in MOONCAKE]
    assert load(tmp_path / write(tmp_path, lines(rows))).segments is None


def test_qwen_bailian_blocks_are_16_tokens_and_times_seconds(tmp_path: Path) -> None:
    rows = [
        {"chat_id": 55, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 33, "output_length": 2,
         "type": "text", "turn": 1, "hash_ids": [7, 8, 9]},
        {"chat_id": 159, "parent_chat_id": 55, "timestamp": 62.0, "input_length": 50, "output_length": 3,
         "type": "text", "turn": 2, "hash_ids": [7, 8, 12]},
    ]  # fmt: skip
    workload = load(tmp_path / write(tmp_path, lines(rows)))
    assert workload.arrival_s.tolist() == [0.0, 0.886]
    assert workload.names == ["55", "159"]
    assert content(workload, 0) == [(7, 16), (8, 16), (9, 1)]
    # 50 tokens are three whole blocks and two tokens that no id covers: those are the request's own.
    assert content(workload, 1) == [(7, 16), (8, 16), (12, 16), (13, 2)]


SHAREGPT = [
    {"id": "a", "conversations": [
        {"from": "human", "value": "x" * 40}, {"from": "gpt", "value": "y" * 81},
        {"from": "human", "value": "z" * 4}, {"from": "gpt", "value": "w" * 8}]},
    {"id": "b", "conversations": [
        {"from": "human", "value": "x" * 40}, {"from": "gpt", "value": "v" * 4}]},
    {"id": "c", "conversations": [{"from": "gpt", "value": "nobody asked"}]},
]  # fmt: skip


@pytest.mark.parametrize("as_lines", [False, True])
def test_sharegpt_makes_a_request_of_every_answer(tmp_path: Path, as_lines: bool) -> None:
    text = lines(SHAREGPT) if as_lines else json.dumps(SHAREGPT, indent=1)
    workload = load(tmp_path / write(tmp_path, text), spec={"arrivals": POISSON})
    assert workload.input_tokens.tolist() == [10, 10 + 21 + 1, 10]
    assert workload.output_tokens.tolist() == [21, 2, 1]
    first, second, third = (content(workload, i) for i in range(3))
    assert second[:1] == first
    assert third == first
    assert [tokens for _, tokens in second] == [10, 21, 1]
    assert any("4 characters a token" in note for note in workload.notes)


def test_sharegpt_by_another_rule_of_thumb(tmp_path: Path) -> None:
    path = tmp_path / write(tmp_path, json.dumps(SHAREGPT))
    workload = load(path, spec={"arrivals": POISSON}, characters_per_token=2)
    assert workload.input_tokens.tolist() == [20, 20 + 41 + 2, 20]


def test_sharegpt_by_a_tokenizer(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = tokenizers.Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    talk = [{"from": "human", "value": "how are you"}, {"from": "gpt", "value": "very well"}]
    path = tmp_path / write(tmp_path, json.dumps([{"conversations": talk}]))
    workload = load(path, spec={"arrivals": POISSON}, tokenizer="tokenizer.json")
    assert workload.input_tokens.tolist() == [3]
    assert workload.output_tokens.tolist() == [2]
    with pytest.raises(InputError, match=r"is not a tokenizer\.json"):
        load(path, spec={"arrivals": POISSON}, tokenizer=path.name)
    with pytest.raises(InputError, match="no such file"):
        load(path, spec={"arrivals": POISSON}, tokenizer="absent.json")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_generic_files_by_a_column_map(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"ts": [100, 250], "in": [5, 6], "out": [7, 8], "who": ["a", "b"], "level": [1, -1]})
    path = tmp_path / f"t.{suffix}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](path)
    columns = {
        "arrival_s": "ts",
        "input_tokens": "in",
        "output_tokens": "out",
        "request_id": "who",
        "priority": "level",
    }
    workload = load(path, columns=columns, time_unit="ms")
    assert workload.arrival_s.tolist() == [0.0, 0.15]
    assert workload.input_tokens.tolist() == [5, 6]
    assert workload.output_tokens.tolist() == [7, 8]
    assert workload.names == ["a", "b"]
    assert workload.priority is not None
    assert workload.priority.tolist() == [1, -1]


def test_generic_files_with_our_names_need_no_map_and_take_dates(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens\n2025-01-01T00:00:00Z,5,6\n2025-01-01T00:01:00.5Z,7,8\n"
    assert load(tmp_path / write(tmp_path, text)).arrival_s.tolist() == [0.0, 60.5]


def test_generic_hashes_may_be_texts_and_may_leave_out_the_last_block(tmp_path: Path) -> None:
    rows = [
        {"arrival_s": 0, "input_tokens": 20, "output_tokens": 1, "hash_ids": ["aa"]},
        {"arrival_s": 1, "input_tokens": 32, "output_tokens": 1, "hash_ids": ["aa", "bb"]},
        {"arrival_s": 2, "input_tokens": 10, "output_tokens": 1, "hash_ids": []},
    ]
    path = tmp_path / write(tmp_path, lines(rows))
    workload = load(path, hash_block_tokens=16)
    check_segments(workload)
    assert content(workload, 0)[0] == content(workload, 1)[0]
    assert content(workload, 2)[0][0] not in {i for k in (0, 1) for i, _ in content(workload, k)}
    with pytest.raises(InputError, match=r"hash_block_tokens, e\.g\. 16"):
        load(path)


def test_generic_segments_say_what_prompts_and_answers_are(tmp_path: Path) -> None:
    rows = [
        {"arrival_s": 0, "input_tokens": 20, "output_tokens": 5, "segments": [[7, 20]], "answer_id": 3},
        {"arrival_s": 1, "input_tokens": 9, "output_tokens": 1, "segments": [[8, 9]], "answer_id": -1},
        {"arrival_s": 2, "input_tokens": 26, "output_tokens": 1, "segments": [[7, 20], [3, 5], [4, 1]]},
    ]
    workload = load(tmp_path / write(tmp_path, lines(rows[:2])))
    check_segments(workload)
    assert workload.segments is not None and workload.segments.output_ids is not None
    assert workload.segments.output_ids.tolist() == [3, -1]
    rows[2]["answer_id"] = -1
    workload = load(tmp_path / write(tmp_path, lines(rows)))
    assert content(workload, 2) == [(7, 20), (3, 5), (4, 1)]


def test_sessions_of_whole_numbers_reach_the_router_as_they_are(tmp_path: Path) -> None:
    def rows(*sessions: object) -> list[dict[str, object]]:
        return [
            {"arrival_s": at, "input_tokens": 5, "output_tokens": 1, "session": session}
            for at, session in enumerate(sessions)
        ]

    numbers = load(tmp_path / write(tmp_path, lines(rows(9, -1, 9, 4))))
    assert numbers.session is not None and numbers.session.tolist() == [9, -1, 9, 4]
    assert numbers.after is None
    texts = load(tmp_path / write(tmp_path, lines(rows("b", "a", "b", None))))
    assert texts.session is not None and texts.session.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("text", [AZURE, lines(MOONCAKE), json.dumps(SHAREGPT)])
def test_gzip_is_unpacked_and_the_suffix_does_not_matter(tmp_path: Path, text: str) -> None:
    spec = {"arrivals": POISSON}
    plain = load(tmp_path / write(tmp_path, text, "plain.txt"), spec=spec)
    packed = load(tmp_path / write(tmp_path, gzip.compress(text.encode()), "packed.dat"), spec=spec)
    assert (plain.input_tokens == packed.input_tokens).all()


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    csv = load(tmp_path / write(tmp_path, "\ufeff" + AZURE.replace("\r\n2023", "\r\n\r\n2023") + "\r\n\r\n"))
    assert csv.input_tokens.tolist() == [4808, 3180]
    jsonl = load(tmp_path / write(tmp_path, "\ufeff" + lines(MOONCAKE).replace("\n", "\n\n")))
    assert jsonl.input_tokens.tolist() == [1000, 1024, 100]


# --- what is done with a trace ---


def ten(folder: Path) -> Path:
    rows = [
        {"timestamp": 1000 * i, "input_length": 600, "output_length": i + 1, "hash_ids": [0, i + 1]}
        for i in range(10)
    ]
    return folder / write(folder, lines(rows))


def test_a_window_keeps_its_requests_and_starts_at_zero(tmp_path: Path) -> None:
    workload = load(ten(tmp_path), start=3, end="6s")
    assert workload.output_tokens.tolist() == [4, 5, 6]
    assert workload.arrival_s.tolist() == [0, 1, 2]
    assert content(workload, 1) == [(0, 512), (5, 88)]
    later = load(ten(tmp_path), start=2.5, end=100)
    assert later.arrival_s.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


def test_a_limit_keeps_the_first(tmp_path: Path) -> None:
    assert load(ten(tmp_path), limit=3).output_tokens.tolist() == [1, 2, 3]
    assert len(load(ten(tmp_path), limit=99)) == 10


def test_a_rate_scale_of_two_is_twice_the_rate(tmp_path: Path) -> None:
    assert load(ten(tmp_path), rate_scale=2.0).arrival_s.tolist() == [i / 2 for i in range(10)]
    assert load(ten(tmp_path), rate_scale=0.5, start=2, limit=2).arrival_s.tolist() == [0, 2]


def test_the_files_own_zero_may_be_that_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / write(tmp_path, "arrival_s,input_tokens,output_tokens\n3,5,5\n4.5,5,6\n9,5,7\n")
    assert load(path).arrival_s.tolist() == [0, 1.5, 6]
    assert load(path, time_zero="file").arrival_s.tolist() == [3, 4.5, 9]
    assert load(path, time_zero="file", end=9, rate_scale=2).arrival_s.tolist() == [1.5, 2.25]
    given = {"arrivals": {"process": "constant", "rate": 4}}
    assert load(path, spec=given, time_zero="file").arrival_s.tolist() == [0, 0.25, 0.5]


def test_given_arrivals_replace_the_traces_own(tmp_path: Path) -> None:
    path = ten(tmp_path)
    workload = load(path, spec={"arrivals": {"process": "constant", "rate": 4}, "max_in_flight": 3})
    assert workload.arrival_s.tolist() == [i / 4 for i in range(10)]
    assert workload.max_in_flight == 3
    assert any("in place of the trace's own" in note for note in workload.notes)
    loop = load(path, spec={"arrivals": {"process": "closed-loop", "concurrency": 2}})
    assert loop.concurrency == 2
    assert loop.output_tokens.tolist() == list(range(1, 11))


def test_resampling_lengthens_a_trace_at_the_same_rate(tmp_path: Path) -> None:
    path = ten(tmp_path)
    workload = load(path, resample=5_000)
    assert len(workload) == 5_000
    assert workload.arrival_s[-1] == pytest.approx(5_000, abs=1)  # every gap is one second
    assert sorted(set(workload.output_tokens.tolist())) == list(range(1, 11))
    assert (workload.output_tokens == 4).mean() == pytest.approx(0.1, abs=0.02)
    again, other = load(path, resample=5_000), load(path, seed=1, resample=5_000)
    assert (again.output_tokens == workload.output_tokens).all()
    assert not (other.output_tokens == workload.output_tokens).all()


def test_a_resampled_prompt_is_not_the_same_prompt_again(tmp_path: Path) -> None:
    workload = load(ten(tmp_path), resample=500)
    check_segments(workload)
    prompts = [tuple(content(workload, i)) for i in range(500)]
    assert len(set(prompts)) == 500
    # What requests shared in the trace (block 0) they still share within a round of repeats.
    assert 10 <= len({prompt[0] for prompt in prompts}) < 150


def test_a_resampled_trace_is_the_same_for_a_smaller_number(tmp_path: Path) -> None:
    few, many = load(ten(tmp_path), resample=50), load(ten(tmp_path), resample=500)
    assert (many.output_tokens[:50] == few.output_tokens).all()
    assert (many.arrival_s[:50] == few.arrival_s).all()


# --- the real traces ---


def real(shared: Path, name: str) -> Path:
    path = shared / "traces" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


@pytest.mark.parametrize(
    ("name", "count", "last_s", "inputs", "outputs"),
    [
        ("azure_2023_code.csv", 8_819, 3435.948056, 18_059_974, 245_896),
        ("azure_2023_conv.csv", 19_366, 3501.721937, 22_361_870, 4_088_665),
        ("mooncake_conversation.jsonl", 12_031, 3536.999, 144_793_823, 4_122_048),
        ("mooncake_synthetic.jsonl", 3_993, 1022.025, 61_194_628, 595_432),
        ("servegen_deepseek_r1_5rps.csv", 8_987, 1799.1804, 15_865_794, 9_968_578),
    ],
)
def test_the_public_traces_are_read_whole(
    shared: Path, name: str, count: int, last_s: float, inputs: int, outputs: int
) -> None:
    workload = load(real(shared, name))
    assert len(workload) == count
    assert workload.arrival_s[-1] == pytest.approx(last_s, abs=1e-9)
    assert workload.input_tokens.sum() == inputs
    assert workload.output_tokens.sum() == outputs
    assert workload.notes == ()


@pytest.mark.parametrize(
    ("name", "share"), [("mooncake_conversation.jsonl", 0.366), ("mooncake_synthetic.jsonl", 0.640)]
)
def test_mooncake_shares_as_much_as_its_readme_says(shared: Path, name: str, share: float) -> None:
    workload = load(real(shared, name))
    check_segments(workload)
    assert workload.segments is not None
    ids = workload.segments.ids
    assert 1 - len(np.unique(ids)) / len(ids) == pytest.approx(share, abs=0.0006)


def test_a_file_of_lengths_goes_with_any_arrivals(shared: Path) -> None:
    columns = {"input_tokens": "num_prefill_tokens", "output_tokens": "num_decode_tokens"}
    path = real(shared, "arxiv_summarization_lengths.csv")
    workload = load(path, spec={"arrivals": POISSON}, columns=columns)
    assert len(workload) == 28_257
    assert workload.input_tokens.mean() == pytest.approx(2588.078, abs=0.001)
