"""The ``engine.speculative`` section: speculative decoding, named as in vLLM's ``--speculative-config``.

What a real run accepts depends on its text; here it is a rate, a rate a position, or what was recorded.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tokensim.scenario.section import Count, CountOrZero, Name, Number, Section, refused

Share = Annotated[Number, Field(ge=0, le=1)]


class Acceptance(Section):
    """How many drafts the model accepts; exactly one of the three."""

    rate: Share | None = None
    """Chance that a draft is accepted, given that those before it in the step were."""
    per_position: Annotated[list[Share], Field(min_length=1)] | None = None
    """The same by place in the step; the last one for all further places."""
    recorded: Annotated[list[CountOrZero], Field(min_length=1)] | Name | None = None
    """Accepted drafts of real steps, taken in turn: a list, or a file that holds one (JSON)."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Acceptance:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise refused(
                f"{' and '.join(given)} are given" if given else "nothing says what is accepted",
                "exactly one of rate, per_position, recorded: acceptance: {rate: 0.7}",
            )
        return self


class Speculative(Section):
    """Drafts that the model verifies several at a time."""

    method: Literal["ngram", "draft_model", "eagle", "eagle3", "mtp"]
    """What makes the drafts: a search in the text, a smaller model, or one more layer of the model itself."""
    num_speculative_tokens: Count
    """Drafts a request and step."""
    model: Name | dict[str, Any] | None = None
    """The draft model, named as the model itself is; only with method draft_model."""
    acceptance: Acceptance
    """How many of them are accepted."""

    @model_validator(mode="after")
    def _draft_model_is_named(self) -> Speculative:
        if self.method == "draft_model" and self.model is None:
            raise refused("method draft_model needs a model", "model: a catalog id or a config.json")
        if self.method != "draft_model" and self.model is not None:
            raise refused(
                f"method {self.method} takes no model",
                "leave it out: EAGLE's and MTP's layer follows from the model itself",
            )
        return self
