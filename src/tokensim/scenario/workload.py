"""The ``workload:`` section of a scenario: synthetic requests, or a trace.

Synthetic is arrivals, lengths, and how many; a trace is a file, which brings its own arrivals unless
``arrivals`` is given too. A process or distribution of a plug-in is named like ours and brings its own keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from tokensim.errors import nearest
from tokensim.registry import register
from tokensim.scenario.arrivals import AllAtOnce, Arrivals, ClosedLoopArrivals
from tokensim.scenario.fields import Positive, PositiveDuration, Rate, Requests
from tokensim.scenario.lengths import JointLengths, Length
from tokensim.scenario.section import Count, Flag, Section, refused
from tokensim.scenario.sessions import Sessions, SharedPrefix
from tokensim.scenario.traits import Adapters, DeadlineOf, Images, Prediction, Task, Weights
from tokensim.scenario.units import Duration

TRACE_FORMATS = ("azure", "burstgpt", "mooncake", "sharegpt", "qwen-bailian", "generic")
TraceColumn = Literal[
    "arrival_s",
    "input_tokens",
    "output_tokens",
    "hash_ids",
    "segments",
    "answer_id",
    "priority",
    "request_id",
    "session",
    "after",
    "delay_s",
    "tenant",
    "deadline_s",
    "predicted_tokens",
    "adapter",
    "encoder_tokens",
]


class TraceSpec(Section):
    """A file of requests. Applied in this order: ``start``/``end``, ``limit``, ``resample``, ``rate_scale``.

    ``path`` is relative to the scenario file. ``rate_scale`` 2.0 sends at twice the trace's rate. ``start``
    and ``end`` (seconds after the first request) keep a window, whose start becomes time zero. ``limit``
    keeps the first so many requests. ``resample`` draws so many with replacement, to lengthen (or thin) the
    trace: each brings its lengths and the gap before it, so rate and mix stay and longer trends go.

    ``time_zero``: ``first``, the first request comes at 0; ``file``, each comes at the time that the file
    says. That is for traces whose zero is that of a run, in which something else happens at a time of its own
    (failures, restarts, an autoscaler's looks). ``end`` counts from that zero too, and ``rate_scale`` divides
    what is before the first request as well.

    ``columns`` (format ``generic``) maps our names to the file's: ``{arrival_s: ts, input_tokens: in}``, and
    ``time_unit`` says what a number in the arrival column counts. ``tokenizer`` and ``characters_per_token``
    (``sharegpt``) turn text into lengths: a Hugging Face ``tokenizer.json``, or a rule of thumb.
    ``hash_block_tokens`` is the number of prompt tokens that one of ``hash_ids`` stands for. ``options`` are
    the keys of a plug-in's format.

    ``sessions``: a round waits for the answer of the one before, and then for the pause between them; where
    the trace gives no pauses, these are the gaps between its times less ``answer_tpot`` for each token of the
    answer. Else every request is sent at its own time.
    """

    path: str
    format: str = "auto"
    rate_scale: Rate = 1.0
    time_zero: Literal["first", "file"] = "first"
    start: Duration | None = None
    end: PositiveDuration | None = None
    limit: Requests | None = None
    resample: Requests | None = None
    columns: dict[str, str] | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    tokenizer: str | None = None
    characters_per_token: Positive | None = None
    hash_block_tokens: Count | None = None
    sessions: Flag = False
    answer_tpot: Annotated[Duration, Field(ge=0)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        known = {"auto", *TRACE_FORMATS, *register.trace_format.names()}
        name = value if value in known else value.lower().replace("_", "-")
        if name not in known:
            raise ValueError(f"unknown trace format '{value}'; {nearest(value, known)}")
        return name

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        known = get_args(TraceColumn)
        for name in value or {}:
            if name not in known:
                raise ValueError(
                    f"'{name}' is not a column of ours; {nearest(name, known)} "
                    "(write 'our name: the file's name')"
                )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> TraceSpec:
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError(
                f"the window is empty: end {self.end:g} s is not after start {self.start or 0:g} s"
            )
        if self.time_zero == "file":
            if self.start is not None:
                raise ValueError("start becomes time zero, and time_zero: file is the file's; leave one out")
            if self.resample is not None:
                raise ValueError("resample draws gaps, and time_zero: file keeps times; leave one out")
        if self.answer_tpot is not None and not self.sessions:
            raise ValueError("answer_tpot says how pauses follow from the trace; it needs sessions: true")
        if self.sessions and self.resample is not None:
            raise ValueError("resample draws single requests, and sessions are whole; leave one of them out")
        if self.tokenizer is not None and self.characters_per_token is not None:
            raise ValueError("give tokenizer or characters_per_token, not both")
        return self


class WorkloadSpec(Section):
    """What is asked of the system.

    Synthetic: ``arrivals``, lengths (``input_tokens`` and ``output_tokens``, or ``lengths`` for both
    together), and ``num_requests`` or ``duration``. Or ``trace``; with ``arrivals`` too, they replace the
    trace's own. ``max_in_flight`` caps the requests that the client lets run at once, and holds the others
    back. With ``sessions``, arrivals are of sessions and ``input_tokens`` what each round adds.
    """

    arrivals: Arrivals | None = None
    input_tokens: Length | None = None
    output_tokens: Length | None = None
    lengths: JointLengths | None = None
    num_requests: Requests | None = None
    duration: PositiveDuration | None = None
    trace: TraceSpec | None = None
    max_in_flight: Count | None = None
    sessions: Sessions | None = None
    shared_prefix: SharedPrefix | None = None
    task: Task = "generate"
    tenants: Weights | None = None
    priorities: Weights | None = None
    deadline: DeadlineOf | None = None
    predicted_tokens: Prediction | None = None
    adapters: Adapters | None = None
    images: Images | None = None

    @model_validator(mode="after")
    def _complete(self) -> WorkloadSpec:
        if self.trace is not None:
            self._check_trace(self.trace)
        else:
            self._check_synthetic()
        return self

    def _check_trace(self, trace: TraceSpec) -> None:
        if self.task != "generate":
            raise ValueError(f"task {self.task} has no answers, and a trace has; give synthetic requests")
        for name in (
            "input_tokens",
            "output_tokens",
            "lengths",
            "num_requests",
            "duration",
            "sessions",
            "shared_prefix",
            "images",
        ):
            if getattr(self, name) is not None:
                instead = {
                    "num_requests": "trace.limit (the first of it) or trace.resample (drawn from it)",
                    "duration": "trace.end",
                    "sessions": "trace.sessions, where the trace has any",
                }.get(name, "either trace or synthetic requests")
                raise ValueError(f"{name} does not go with trace; use {instead}")
        if self.arrivals is not None and trace.rate_scale != 1.0:
            raise ValueError("trace.rate_scale scales the trace's own arrivals, which arrivals replaces")

    def _check_synthetic(self) -> None:
        if self.arrivals is None:
            raise ValueError("give arrivals (synthetic requests) or trace (a file of requests)")
        if self.task != "generate":
            self._check_prefill_only()
        elif self.lengths is not None:
            if self.input_tokens is not None or self.output_tokens is not None:
                raise ValueError(
                    "lengths already gives input_tokens and output_tokens; give one or the other"
                )
        elif self.input_tokens is None or self.output_tokens is None:
            missing = "input_tokens" if self.input_tokens is None else "output_tokens"
            raise ValueError(f"{missing} is missing (or give lengths for both together)")
        count, name = self.num_requests, "num_requests"
        if self.sessions is not None:
            if count is not None:
                raise ValueError("num_requests does not go with sessions; use sessions.count")
            count, name = self.sessions.count, "sessions.count"
        if (count is None) == (self.duration is None):
            raise ValueError(f"give exactly one of {name} and duration")
        if count is None and isinstance(self.arrivals, ClosedLoopArrivals | AllAtOnce):
            raise ValueError(
                f"'{self.arrivals.process}' needs {name}: no clock says when its requests arrive"
            )

    def _check_prefill_only(self) -> None:
        for name in ("output_tokens", "lengths", "sessions", "predicted_tokens"):
            if getattr(self, name) is not None:
                raise refused(
                    f"{name} means nothing for task {self.task}: such requests have no answer",
                    "leave it out",
                )
        if self.input_tokens is None:
            raise ValueError("input_tokens is missing")
