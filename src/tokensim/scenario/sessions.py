"""What prompts share in a synthetic workload: sessions of many rounds, and system prompts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tokensim.scenario.arrivals import ThinkTime
from tokensim.scenario.fields import Requests
from tokensim.scenario.lengths import Length
from tokensim.scenario.section import Count, Number, Section

Share = Annotated[Number, Field(ge=0, le=1)]


class Sessions(Section):
    """Conversations, or tasks of agents: `workload.arrivals` sends sessions, each of several requests.

    A request's prompt is all that was said before it (prompts and answers) and new tokens: `input_tokens` of
    the workload. With `branches` above 1 the first request of a session is followed by so many chains of
    requests side by side, each of which goes on from the first one's answer (an agent that plans, then works
    on the parts in parallel).
    """

    rounds: Length
    """Requests of a session, one after the other (of each branch, the first request included)."""
    count: Requests | None = None
    """How many sessions; or `workload.duration`."""
    first_input_tokens: Length | None = None
    """New tokens of a session's first prompt. Null: like those of the others."""
    think_time: ThinkTime = 0.0
    """From the end of an answer to the next request: a user thinks, an agent's tool runs."""
    branches: Length | None = None
    """Chains that follow the first request side by side. Null: one."""
    max_context: Count | None = None
    """A chain ends before the request whose prompt and answer would be longer. Null: it never does."""


class SharedPrefix(Section):
    """A system prompt in front of prompts (of sessions: in front of the first one, and so of all)."""

    tokens: Count
    """Its length, which adds to that of the prompt."""
    groups: Count = 1
    """How many different ones; each request (session) has one of them at random."""
    share: Share = 1.0
    """Share of the requests (sessions) that have one."""

    @model_validator(mode="after")
    def _shared_by_some(self) -> SharedPrefix:
        if self.share == 0:
            raise ValueError("share is 0: nobody has the prefix; leave shared_prefix out")
        return self
