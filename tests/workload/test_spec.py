"""The ``workload:`` section: what is refused, and in which words; parts of plug-ins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field, ValidationError

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scenario.arrivals import ARRIVAL_PROCESSES
from tokensim.scenario.lengths import LENGTH_DISTRIBUTIONS
from tokensim.scenario.workload import TRACE_FORMATS, WorkloadSpec
from tokensim.workload import build_workload
from tokensim.workload.arrivals import Arrivals
from tokensim.workload.streams import Streams
from tokensim.workload.traces import TraceFile, TraceRows

POISSON = {"process": "poisson", "rate": 20}
GOOD: dict[str, Any] = {"arrivals": POISSON, "input_tokens": 5, "output_tokens": 5, "num_requests": 10}


def test_every_name_of_the_schema_is_registered_and_the_other_way_round() -> None:
    assert set(ARRIVAL_PROCESSES) == set(register.arrival_process.names())
    assert set(LENGTH_DISTRIBUTIONS) == set(register.length_distribution.names())
    assert set(TRACE_FORMATS) == set(register.trace_format.names())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arrivals": {"process": "posson", "rate": 1}}, "did you mean 'poisson'"),
        ({"arrivals": {"rate": 1}}, "'process' is missing; known: all-at-once"),
        ({"arrivals": 20}, "expected a mapping such as {process: poisson"),
        ({"arrivals": {"process": "poisson", "rate": -3}}, "greater than 0"),
        ({"arrivals": {"process": "poisson", "rate": 0}}, "greater than 0"),
        ({"arrivals": {"process": "poisson", "rate": float("inf")}}, "process: all-at-once"),
        ({"arrivals": {"process": "poisson", "rate": float("nan")}}, "finite"),
        ({"arrivals": {"process": "poisson", "rate": True}}, "valid number"),
        ({"arrivals": {"process": "poisson", "rate": 1, "burstiness": 2}}, "burstiness"),
        ({"arrivals": {"process": "gamma", "rate": 1}}, "exactly one of burstiness and cv"),
        ({"arrivals": {"process": "gamma", "rate": 1, "cv": 1, "burstiness": 1}}, "exactly one of"),
        ({"arrivals": {"process": "diurnal", "mean": 2}}, "give points, or mean and amplitude"),
        ({"arrivals": {"process": "diurnal", "points": [[5, 1], [5, 2]]}}, "increasing times"),
        ({"arrivals": {"process": "diurnal", "points": [[5, 1]], "period": 4}}, "beyond the period"),
        ({"arrivals": {"process": "diurnal", "points": [[0, 0]]}}, "a rate above 0"),
        (
            {"arrivals": {"process": "onoff", "rate_on": 1, "mean_on": "1 fortnight", "mean_off": 1}},
            "fortnight",
        ),
        ({"arrivals": {"process": "closed-loop", "concurrency": 0}}, "greater than"),
        (
            {"arrivals": {"process": "closed-loop", "concurrency": 2, "think_time": {"mean": 1}}},
            "'distribution'",
        ),
        ({"input_tokens": 0}, "greater than"),
        ({"input_tokens": 2.5}, "integer"),
        ({"input_tokens": {"distribution": "lognormall", "mean": 5}}, "did you mean 'lognormal'"),
        ({"input_tokens": {"distribution": "lognormal", "mean": 5}}, "exactly one of std and cv"),
        ({"input_tokens": {"distribution": "uniform", "min": 5, "max": 4}}, "max 4 is below min 5"),
        (
            {"input_tokens": {"distribution": "exponential", "mean": 5, "min": 9, "max": 3}},
            "max 3 is below min 9",
        ),
        (
            {"input_tokens": {"distribution": "zipf", "exponent": 1, "min": 9, "max": 3}},
            "max 3 is below min 9",
        ),
        ({"input_tokens": None}, "input_tokens is missing"),
        ({"lengths": {"pairs": [[1, 1]]}}, "give one or the other"),
        ({"num_requests": None}, "exactly one of num_requests and duration"),
        ({"duration": 5}, "exactly one of num_requests and duration"),
        ({"arrivals": None}, "give arrivals (synthetic requests) or trace"),
        ({"num_requests": None, "duration": 5, "arrivals": "all-at-once"}, "needs num_requests"),
        ({"num_requests": 10**12}, "less than or equal to 200000000"),
        ({"trace": {"path": "x.csv"}}, "does not go with trace"),
        ({"max_in_flight": 0}, "greater than"),
        ({"rate": 5}, "rate"),
    ],
)
def test_an_impossible_workload_is_refused_with_what_would_be_right(
    change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        WorkloadSpec.model_validate(GOOD | change)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ({}, "exactly one of path and pairs"),
        ({"pairs": []}, "pairs is empty"),
        ({"pairs": [[0, 1]]}, "greater than"),
        ({"pairs": [[1, 1]], "input_column": "a"}, "names a column of a file"),
    ],
)
def test_joint_lengths_need_one_source(lengths: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WorkloadSpec.model_validate({"arrivals": POISSON, "num_requests": 1, "lengths": lengths})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "azur"}, "unknown trace format 'azur'; did you mean 'azure'"),
        ({"rate_scale": 0}, "greater than 0"),
        ({"start": "10s", "end": "5s"}, "end 5 s is not after start 10 s"),
        ({"start": "10s", "time_zero": "file"}, "start becomes time zero"),
        ({"resample": 5, "time_zero": "file"}, "time_zero: file keeps times"),
        ({"limit": 0}, "greater than"),
        ({"columns": {"input_token": "in"}}, "did you mean 'input_tokens'"),
        ({"tokenizer": "t.json", "characters_per_token": 3}, "not both"),
        ({"time_unit": "hours"}, "'s', 'ms', 'us' or 'ns'"),
    ],
)
def test_an_impossible_trace_section_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WorkloadSpec.model_validate({"trace": {"path": "x.csv"} | change})
    assert says in str(caught.value)


def test_a_scale_and_other_arrivals_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="which arrivals replaces"):
        WorkloadSpec.model_validate({"trace": {"path": "x", "rate_scale": 2}, "arrivals": POISSON})


def test_names_may_be_written_with_underscores() -> None:
    spec = WorkloadSpec.model_validate(GOOD | {"arrivals": {"process": "closed_loop", "concurrency": 2}})
    assert spec.arrivals is not None
    assert spec.arrivals.process == "closed-loop"


def test_the_section_survives_a_round_trip() -> None:
    section = GOOD | {
        "arrivals": {
            "process": "closed-loop",
            "concurrency": 2,
            "think_time": {"distribution": "exponential", "mean": "2s"},
        },
        "input_tokens": {"distribution": "lognormal", "mean": 512, "cv": 1.0},
    }
    spec = WorkloadSpec.model_validate(section)
    assert WorkloadSpec.model_validate(spec.model_dump()) == spec
    assert WorkloadSpec.model_validate(spec.model_dump(mode="json", exclude_none=True)) == spec


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (register.arrival_process, register.length_distribution, register.trace_format):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))

    @register.arrival_process("two-by-two")
    class TwoByTwo(BaseModel, extra="forbid"):
        every_s: float = Field(gt=0)

        def sample(self, streams: Streams, count: int | None, duration_s: float | None) -> Arrivals:
            assert count is not None
            return Arrivals(np.arange(count) // 2 * self.every_s)

    @register.length_distribution("even")
    @dataclass
    class Even:
        up_to: int

        def sample(self, rng: np.random.RandomState, n: int) -> np.ndarray[Any, Any]:
            return 2 * rng.randint(0, self.up_to, n, dtype=np.int64)

    @register.trace_format("colon")
    class Colon:
        uses = frozenset({"options"})

        def recognises(self, file: TraceFile) -> bool:
            return file.data.startswith(b"#colon")

        def read(self, file: TraceFile) -> TraceRows:
            rows = [line.split(b":") for line in file.data.splitlines()[1:]]
            times, inputs, outputs = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
            return TraceRows(times * 10**9 * file.spec.options.get("tick_s", 1), inputs, outputs)


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_in_is_named_like_ours_and_brings_its_own_keys(tmp_path: Path) -> None:
    spec = WorkloadSpec.model_validate(GOOD | {"arrivals": {"process": "two-by-two", "every_s": 3}})
    assert build_workload(spec, 0).arrival_s[:5].tolist() == [0, 0, 3, 3, 6]
    assert WorkloadSpec.model_validate(spec.model_dump(mode="json")) == spec
    (tmp_path / "a.trace").write_text("#colon\n0:5:1\n4:6:2\n")
    for name in ("auto", "colon"):
        trace = {"path": "a.trace", "format": name, "options": {"tick_s": 2}}
        workload = build_workload(WorkloadSpec.model_validate({"trace": trace}), 0, tmp_path)
        assert workload.arrival_s.tolist() == [0, 8]
        assert workload.input_tokens.tolist() == [5, 6]


@pytest.mark.usefixtures("plug_ins")
def test_wrong_keys_of_a_plug_in_are_refused_by_its_class() -> None:
    with pytest.raises(ValidationError, match="every_s: Input should be greater than 0"):
        WorkloadSpec.model_validate(GOOD | {"arrivals": {"process": "two-by-two", "every_s": -1}})
    with pytest.raises(ValidationError, match="every: Extra inputs"):
        WorkloadSpec.model_validate(GOOD | {"arrivals": {"process": "two-by-two", "every_s": 1, "every": 2}})
    with pytest.raises(ValidationError, match=r"'even': missing a required argument: 'up_to'"):
        WorkloadSpec.model_validate(GOOD | {"input_tokens": {"distribution": "even"}})


@pytest.mark.usefixtures("plug_ins")
def test_a_plug_in_that_gives_impossible_lengths_is_found_out() -> None:
    spec = WorkloadSpec.model_validate(GOOD | {"input_tokens": {"distribution": "even", "up_to": 2}})
    with pytest.raises(InputError, match=r"input_tokens of request \d is 0; at least 1"):
        build_workload(spec, 0)
