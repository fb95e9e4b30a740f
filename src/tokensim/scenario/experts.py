"""The ``performance.experts`` section: how tokens spread over experts, and where experts lie.

See ``tokensim.model.routing``. Without the section each source of operator times keeps the spread that it was
made with: measured tables a mild power law, the roofline independent, even choices.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tokensim.scenario.section import CountOrZero, Flag, Name, Number, Section, refused


class ExpertSpread(Section):
    """How popular the experts are, and how they are placed on ranks."""

    balance: Literal["uniform", "zipf", "recorded"]
    """All experts alike; by Zipf's law; or as counted in a file."""
    exponent: Annotated[Number, Field(ge=0)] | None = None
    """Of Zipf's law: the n-th most popular expert gets tokens in proportion to n^-exponent."""
    file: Name | None = None
    """Tokens counted by layer and expert: CSV or Parquet with the columns layer, expert, tokens; or JSON."""
    eplb: Flag = False
    """Whether experts are placed by their load, as vLLM's EPLB does; else in order."""
    num_redundant_experts: CountOrZero = 0
    """Copies of popular experts in each layer (with eplb)."""

    @model_validator(mode="after")
    def _options_agree(self) -> ExpertSpread:
        for key, balance in (("exponent", "zipf"), ("file", "recorded")):
            given = getattr(self, key) is not None
            if given and self.balance != balance:
                raise refused(f"{key} is given, but balance is {self.balance!r}", f"set balance: {balance}")
            if not given and self.balance == balance:
                raise refused(f"balance is {balance!r} without {key}", f"give {key}")
        if self.num_redundant_experts and not self.eplb:
            raise refused("num_redundant_experts needs eplb", "set eplb: true, or leave the copies out")
        return self
