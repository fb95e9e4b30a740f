"""What the endpoint accepts: the fields of OpenAI's API and vLLM's additions.

Fields that nobody knows are ignored, as vLLM does. What would change the shape of the answer and is not
simulated (log probabilities, grammars, tool calls) is refused by name, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]

COMPLETION_TOKENS = 16
"""Of a completion, where the request does not say (vLLM's default)."""


class Body(BaseModel):
    """A JSON object; unknown fields are kept and ignored."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class StreamOptions(Body):
    """``include_usage``: one more chunk at the end; ``continuous_usage_stats``: usage in every chunk."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampling(Body):
    """What completions and chat completions have in common."""

    model: Annotated[str, Field(max_length=1024)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    min_tokens: Whole | None = 0
    ignore_eos: bool | None = False
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = 0
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    user: str | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    temperature: Annotated[float, Field(ge=0, le=1e9)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=1e9)] | None = None
    logit_bias: dict[str, float] | None = None
    add_special_tokens: bool | None = None

    # Refused where they ask for anything (see ``UNSIMULATED``).
    prompt_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    use_beam_search: bool | None = False


class CompletionRequest(Sampling):
    """``POST /v1/completions``."""

    prompt: (
        Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
        | str
        | Annotated[list[str], Field(min_length=1)]
    )
    max_tokens: Positive | None = COMPLETION_TOKENS
    best_of: Positive | None = None
    echo: bool | None = False
    suffix: str | None = None
    logprobs: int | None = None


class Part(Body):
    """A part of a message's content."""

    type: str
    text: str | None = None


class Message(Body):
    """One message of a conversation."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatRequest(Sampling):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = True
    continue_final_message: bool | None = False
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None


UNSIMULATED = (
    *("prompt_logprobs", "structured_outputs", "guided_json", "guided_regex", "guided_choice"),
    *("guided_grammar", "use_beam_search", "echo", "suffix", "logprobs", "top_logprobs", "audio"),
)
"""Fields that are refused unless they are absent, null, false or empty."""


class ErrorDetail(BaseModel):
    """What was wrong, with which field, and the status code once more."""

    message: str
    type: str
    param: str | None = None
    code: int


class ErrorBody(BaseModel):
    """Every error that the endpoint answers with."""

    error: ErrorDetail


class FailBody(BaseModel):
    """``POST /admin/replicas/{name}/fail``: see ``cluster.failures`` of a scenario."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    requests: Literal["resume", "restart", "lose"] = "resume"
    recovery: Annotated[float, Field(ge=0, le=1e9)] | None = None
    max_retries: Annotated[int, Field(ge=0, le=1000)] = 3


class ThrottleBody(BaseModel):
    """``POST /admin/replicas/{name}/throttle``: null lifts it."""

    model_config = ConfigDict(extra="forbid")
    max_running: Annotated[int, Field(ge=0, lt=2**31)] | None
