"""Bad traces: each is refused with the file, the line, the value, and what would be right."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import build_workload

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
A1 = "2023-11-16 18:17:03.9799600,4808,10\n"
A2 = "2023-11-16 18:17:04.0319600,3180,8\n"
M1 = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'
S1 = '{"arrival_s": 0, "input_tokens": 5, "output_tokens": 5, "segments": %s}\n'
M2 = '{"timestamp": 9, "input_length": 600, "output_length": 5, "hash_ids": [0, 2]}\n'
OURS = "arrival_s,input_tokens,output_tokens\n"
TALK = '[{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}]'


def refusal(folder: Path, data: str | bytes, spec: dict[str, Any] | None = None, **trace: Any) -> str:
    path = folder / "trace.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    section = {"trace": {"path": path.name, **trace}, **(spec or {})}
    with pytest.raises(InputError) as caught:
        build_workload(WorkloadSpec.model_validate(section), 0, folder)
    text = str(caught.value)
    assert caught.value.where is not None
    return text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "trace.csv: the file is empty"),
        ("\n \n", "trace.csv: the file is empty"),
        (HEADER, "trace.csv: the file has a header and no rows"),
        ("\n" + HEADER + A1, "line 1: the first line is empty"),
        # truncated
        (
            HEADER + A1 + "2023-11-16 18:17",
            "line 3: 1 field where the header has 3 (the last line is cut off)",
        ),
        (HEADER + A1 + A2.strip()[:-1], "line 3: 'GeneratedTokens' is missing (the last line looks cut off)"),
        (M1 + M2[:40], "line 2: the last line is cut off\n  the file is truncated; fetch it again"),
        (TALK[:-30], "line 1: the JSON document is cut off"),
        # binary or mis-encoded
        (b"\x7fELF\x02\x01\x00\x00\x00", "trace.csv, line 1: the file is binary, not text"),
        ((HEADER + A1).encode("utf-16"), "the file is UTF-16\n  save it as UTF-8"),
        ((HEADER + A1).encode() + b"caf\xe9,1,2\n", "line 3: byte 0xe9 is not UTF-8"),
        (b"PAR1\x00\x01garbage", "the Parquet file is truncated or damaged"),
        (gzip.compress((HEADER + A1 * 50).encode(), mtime=0)[:-20], "the gzip file is truncated or damaged"),
        # mixed formats
        (HEADER + A1 + M1, "line 3: 5 fields where the header has 3\n  one file, one format"),
        (HEADER + A1 + "\n" + M1, "line 4: 5 fields where the header has 3"),
        (HEADER + A1 + HEADER + A2, "line 3: 'TIMESTAMP' is TIMESTAMP"),
        (M1 + HEADER + M2, "line 2: is not a JSON object: TIMESTAMP,ContextTokens"),
        (M1 + "[1, 2]\n" + M2, "line 2: is not a JSON object: [1, 2]"),
        (
            M1 + '{"chat_id": 1, "timestamp": 1.5, "input_length": 9, "output_length": 1}\n',
            "line 1: 'chat_id' is missing",
        ),
        (TALK[:-1] + ", " + M1 + "]", "[1]: no list of 'conversations'"),
        # values
        (
            HEADER + A1 + A2.replace("3180", "NaN"),
            "line 3: 'ContextTokens' is NaN\n  expected a number of tokens",
        ),
        (HEADER + A1 + A2.replace("3180", ""), "line 3: 'ContextTokens' is missing"),
        (HEADER + A1 + A2.replace("3180", "many"), "line 3: 'ContextTokens' is many"),
        (
            HEADER + A1 + A2.replace("3180", "31.5"),
            "line 3: 'ContextTokens' is 31.5\n  expected a number of tokens, whole",
        ),
        (HEADER + A1 + A2.replace("3180", "-3"), "line 3: 'ContextTokens' is -3\n  a length is negative"),
        (HEADER + A1 + A2.replace("3180", "99999999999"), "line 3: 'ContextTokens' is 99999999999"),
        (HEADER + A1.replace("4808", "0"), "every row has 0 input or 0 output tokens"),
        (
            HEADER + A1 + A2.replace("2023-11-16", "16.11.2023"),
            "line 3: 'TIMESTAMP' is 16.11.2023 18:17:04.0319600",
        ),
        (
            M1 + M2.replace("600", '"long"'),
            "line 2: 'input_length' is 'long', a text\n  a number in the first row",
        ),
        (M1 + M2.replace("600", "NaN"), "line 2: 'input_length' is NaN"),
        (M1 + M2.replace("600", "true"), "line 2: 'input_length' is True"),
        (M1 + M2.replace('"input_length": 600, ', ""), "line 2: 'input_length' is missing"),
        (M1 + M2.replace("[0, 2]", "[0]").replace("600", "1400"), "line 2: 1 hash_ids for 1400 input tokens"),
        (
            M1 + M2.replace("[0, 2]", "7"),
            "line 2: 'hash_ids' is 7, a number\n  a list of a number in the first row",
        ),
        (M1 + M2.replace("[0, 2]", "[0, null]"), "'hash_ids' holds something that is no id"),
        # time
        (
            HEADER + A2 + A1,
            "line 3: time goes backwards: 'TIMESTAMP' is 2023-11-16 18:17:03.9799600 after 2023",
        ),
        (M2 + M1, "line 2: time goes backwards: 'timestamp' is 0 after 9\n  sort the trace by time"),
        (OURS + "0,5,5\n\n2,5,5\n1,5,5\n", "line 5: time goes backwards: 'arrival_s' is 1 after 2"),
        (OURS + "nan,5,5\n", "line 2: 'arrival_s' is nan\n  expected a time in s, or a date"),
        (OURS + "1e300,5,5\n", "'arrival_s' is beyond 146 years\n  is it really in s?"),
        # columns
        (HEADER.replace("Context", "Contxt") + A1, "'ContxtTokens': did you mean 'ContextTokens'"),
        ("a,b\n1,2\n", "no known trace format: its columns are a, b"),
        ("arrival_s,input_tokens,input_tokens\n1,2,3\n", "line 1: the column 'input_tokens' is there twice"),
        ('[{"a": 1}]', "one JSON document, and no list of conversations"),
        (
            '[{"conversations": [{"from": "cat", "value": "x"}]}]',
            "[0].conversations[0]: unknown speaker 'cat'",
        ),
        ('[{"conversations": [{"from": "human"}]}]', "[0].conversations[0]: is not a message"),
        ('[{"conversations": [{"from": "human", "value": "x"}]}]', "no conversation has an answer"),
    ],
)
def test_a_bad_trace_is_refused_in_plain_words(tmp_path: Path, data: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, data)


def test_an_absent_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "azure_2023_conv.csv").write_text(HEADER + A1)
    for name, says in [
        ("azure_2023_con.csv", "no such file\n  did you mean 'azure_2023_conv.csv'?"),
        ("zzz", "there is none like it in"),
        ("traces/azure.csv", "there is no folder"),
        (".", "is a folder"),
    ]:
        with pytest.raises(InputError) as caught:
            build_workload(WorkloadSpec.model_validate({"trace": {"path": name}}), 0, tmp_path)
        assert says in str(caught.value)


@pytest.mark.parametrize(
    ("data", "trace", "says"),
    [
        (HEADER + A1, {"format": "mooncake"}, "no column 'input_length'"),
        (HEADER + A1, {"format": "sharegpt"}, "no list of 'conversations'"),
        (TALK, {"format": "azure"}, "is one JSON document, and 'azure' is a table"),
        (HEADER + A1, {"format": "generic"}, "no column 'input_tokens'"),
        (
            HEADER + A1,
            {"tokenizer": "t.json"},
            "workload.trace.tokenizer: a trace of format 'azure' does not use",
        ),
        (HEADER + A1, {"hash_block_tokens": 16}, "does not use hash_block_tokens"),
        (HEADER + A1, {"format": "azure", "columns": {"arrival_s": "T"}}, "or set format: generic"),
        (HEADER + A1, {"options": {"x": 1}}, "does not use options"),
        (
            OURS + "0,5,5\n",
            {"columns": {"arrival_s": "arival_s"}},
            "no column 'arival_s'\n  did you mean 'arrival_s'?",
        ),
        (
            OURS + "0,5,5\n",
            {"hash_block_tokens": 16},
            "hash_block_tokens is set, and the trace has no 'hash_ids'",
        ),
        (OURS + "2023-01-01 00:00:00,5,5\n", {"time_unit": "ms"}, "expected a number, counted in ms"),
        (
            "input_tokens,output_tokens\n5,5\n",
            {"time_unit": "ms"},
            "time_unit is set, and the trace has no arrivals",
        ),
        ("input_tokens,output_tokens\n5,5\n", {}, "the trace has no arrivals\n  add workload.arrivals"),
        ("input_tokens,output_tokens\n5,5\n", {"start": 5}, "the trace has no arrivals\n"),
        (M1.replace("600", "1"), {"hash_block_tokens": 1}, "2 hash_ids for 1 input tokens"),
        (OURS + "0,5,5\n9,5,5\n", {"start": 10}, "no request in the window\n  trace.csv lasts 9.0 s"),
        (
            "input_tokens,output_tokens,hash_ids\n5,5,[1]\n",
            {"hash_block_tokens": 5},
            "'hash_ids' is not a list",
        ),
        (S1 % "[[1, 4]]", {}, "line 1: 'segments' are 4 tokens of 5"),
        (S1 % "[[1, 5]]" + S1 % "[[1, 5, 2]]", {}, "line 2: 'segments' holds something that is no pair"),
        (S1 % "[[-1, 5]]", {}, "'segments' holds [-1, 5]\n  a list of [id, tokens]"),
        (S1 % "[[1, 5], [2, null]]", {}, "'segments' holds [2, -1]"),
        (S1 % "[1, 5]", {}, "'segments' is no list of segments"),
        (S1 % '"x"', {}, "'segments' is no list of segments"),
        (S1 % "[[1, 5]]", {"hash_block_tokens": 5}, "'segments' says what prompts are already"),
        (
            '{"input_tokens": 5, "output_tokens": 5, "arrival_s": 0, "answer_id": 3}',
            {},
            "'answer_id' says what answers are, and nothing says what prompts are",
        ),
    ],
)
def test_a_key_that_does_not_fit_the_trace_is_refused(
    tmp_path: Path, data: str, trace: dict[str, Any], says: str
) -> None:
    assert says in refusal(tmp_path, data, **trace)


def test_a_window_of_a_trace_without_arrivals_is_refused_even_with_arrivals(tmp_path: Path) -> None:
    arrivals = {"arrivals": {"process": "poisson", "rate": 1}}
    assert "so start means nothing" in refusal(
        tmp_path, "input_tokens,output_tokens\n5,5\n", arrivals, start=5
    )


def test_a_parquet_file_is_told_by_row(tmp_path: Path) -> None:
    data = io.BytesIO()
    pl.DataFrame({"arrival_s": [0.0, 1.0], "input_tokens": [5, None], "output_tokens": [1, 1]}).write_parquet(
        data
    )
    assert "trace.csv, row 2: 'input_tokens' is missing" in refusal(tmp_path, data.getvalue())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([HEADER + A1 + A2, M1 + M2, TALK, OURS + "0,5,5\n1,6,6\n"]),
    st.integers(0, 400),
    st.integers(0, 20),
    st.binary(max_size=8),
)
def test_a_damaged_trace_is_read_or_refused_and_never_a_traceback(
    tmp_path: Path, text: str, at: int, cut: int, junk: bytes
) -> None:
    data = text.encode()
    at %= len(data) + 1
    (tmp_path / "t").write_bytes(data[:at] + junk + data[at + cut :])
    section = {"trace": {"path": "t"}, "arrivals": {"process": "poisson", "rate": 1}}
    try:
        workload = build_workload(WorkloadSpec.model_validate(section), 0, tmp_path)
    except InputError as error:
        assert error.where is not None
    else:
        assert min(workload.input_tokens.min(), workload.output_tokens.min()) >= 1


def test_json_values_of_any_shape_are_refused_and_never_a_traceback(tmp_path: Path) -> None:
    good = json.loads(M1)
    for key in good:
        for value in (None, "x", "", [], [1], [[1]], {}, {"a": 1}, True, 1e400, -1, 2**70, 0.5):
            for rows in ([good, good | {key: value}], [good | {key: value}, good]):
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (tmp_path / "t").write_text(text)
                try:
                    build_workload(WorkloadSpec.model_validate({"trace": {"path": "t"}}), 0, tmp_path)
                except InputError as error:
                    assert "line" in str(error) or key in str(error)


@pytest.mark.parametrize(
    ("data", "spec", "says"),
    [
        (HEADER + A1, {}, "begin years after its zero, as dates"),
        (OURS + "-1,5,5\n2,5,5\n", {}, "begin before its zero"),
        (TALK, {"arrivals": {"process": "poisson", "rate": 2}}, "no arrivals, so time_zero means nothing"),
    ],
)
def test_a_zero_that_the_file_does_not_have(
    tmp_path: Path, data: str, spec: dict[str, Any], says: str
) -> None:
    text = refusal(tmp_path, data, spec, time_zero="file")
    assert "workload.trace.time_zero" in text and says in text and "leave it out" in text
