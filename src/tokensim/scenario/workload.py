"""The ``workload:`` section of a scenario: synthetic requests, or a trace.

Synthetic is arrivals, lengths, and how many; a trace is a file, which brings its own arrivals unless
``arrivals`` is given too. A process or distribution of a plug-in is named like ours and brings its own keys.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from tokensim.errors import nearest
from tokensim.registry import register
from tokensim.scenario.arrivals import AllAtOnce, Arrivals, ClosedLoopArrivals
from tokensim.scenario.fields import Positive, PositiveDuration, Rate, Requests
from tokensim.scenario.lengths import JointLengths, Length
from tokensim.scenario.section import Count, Section
from tokensim.scenario.units import Duration

TRACE_FORMATS = ("azure", "burstgpt", "mooncake", "sharegpt", "qwen-bailian", "generic")
TraceColumn = Literal["arrival_s", "input_tokens", "output_tokens", "hash_ids", "priority", "request_id"]


class TraceSpec(Section):
    """A file of requests. Applied in this order: ``start``/``end``, ``limit``, ``resample``, ``rate_scale``.

    ``path`` is relative to the scenario file. ``rate_scale`` 2.0 sends at twice the trace's rate. ``start``
    and ``end`` (seconds after the first request) keep a window, whose start becomes time zero. ``limit``
    keeps the first so many requests. ``resample`` draws so many with replacement, to lengthen (or thin) the
    trace: each brings its lengths and the gap before it, so rate and mix stay and longer trends go.

    ``columns`` (format ``generic``) maps our names to the file's: ``{arrival_s: ts, input_tokens: in}``, and
    ``time_unit`` says what a number in the arrival column counts. ``tokenizer`` and ``characters_per_token``
    (``sharegpt``) turn text into lengths: a Hugging Face ``tokenizer.json``, or a rule of thumb.
    ``hash_block_tokens`` is the number of prompt tokens that one of ``hash_ids`` stands for. ``options`` are
    the keys of a plug-in's format.
    """

    path: str
    format: str = "auto"
    rate_scale: Rate = 1.0
    start: Duration | None = None
    end: PositiveDuration | None = None
    limit: Requests | None = None
    resample: Requests | None = None
    columns: dict[str, str] | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    tokenizer: str | None = None
    characters_per_token: Positive | None = None
    hash_block_tokens: Count | None = None
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
        if self.tokenizer is not None and self.characters_per_token is not None:
            raise ValueError("give tokenizer or characters_per_token, not both")
        return self


class WorkloadSpec(Section):
    """What is asked of the system.

    Synthetic: ``arrivals``, lengths (``input_tokens`` and ``output_tokens``, or ``lengths`` for both
    together), and ``num_requests`` or ``duration``. Or ``trace``; with ``arrivals`` too, they replace the
    trace's own. ``max_in_flight`` caps the requests that the client lets run at once, and holds the others
    back.
    """

    arrivals: Arrivals | None = None
    input_tokens: Length | None = None
    output_tokens: Length | None = None
    lengths: JointLengths | None = None
    num_requests: Requests | None = None
    duration: PositiveDuration | None = None
    trace: TraceSpec | None = None
    max_in_flight: Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> WorkloadSpec:
        if self.trace is not None:
            self._check_trace(self.trace)
        else:
            self._check_synthetic()
        return self

    def _check_trace(self, trace: TraceSpec) -> None:
        for name in ("input_tokens", "output_tokens", "lengths", "num_requests", "duration"):
            if getattr(self, name) is not None:
                instead = {
                    "num_requests": "trace.limit (the first of it) or trace.resample (drawn from it)",
                    "duration": "trace.end",
                }.get(name, "either trace or synthetic lengths")
                raise ValueError(f"{name} does not go with trace; use {instead}")
        if self.arrivals is not None and trace.rate_scale != 1.0:
            raise ValueError("trace.rate_scale scales the trace's own arrivals, which arrivals replaces")

    def _check_synthetic(self) -> None:
        if self.arrivals is None:
            raise ValueError("give arrivals (synthetic requests) or trace (a file of requests)")
        if self.lengths is not None:
            if self.input_tokens is not None or self.output_tokens is not None:
                raise ValueError(
                    "lengths already gives input_tokens and output_tokens; give one or the other"
                )
        elif self.input_tokens is None or self.output_tokens is None:
            missing = "input_tokens" if self.input_tokens is None else "output_tokens"
            raise ValueError(f"{missing} is missing (or give lengths for both together)")
        if (self.num_requests is None) == (self.duration is None):
            raise ValueError("give exactly one of num_requests and duration")
        if self.num_requests is None and isinstance(self.arrivals, ClosedLoopArrivals | AllAtOnce):
            raise ValueError(
                f"'{self.arrivals.process}' needs num_requests: no clock says when its requests arrive"
            )
