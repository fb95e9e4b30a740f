"""What every section of a scenario shares: no unknown keys, nothing changes after it was read, exact types.

A number is a number: ``"256"``, ``256.5`` and ``true`` are refused where a whole number belongs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A section of the scenario."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class OverridesOf:
    """Marks a mapping whose keys are those of ``section``, each of them optional."""

    section: type[Section]


Flag = Annotated[bool, Field(strict=True)]
"""``true`` or ``false``, nothing that only looks like it."""

Count = Annotated[int, Field(strict=True, ge=1)]
"""A whole number of at least 1."""

CountOrZero = Annotated[int, Field(strict=True, ge=0)]
"""A whole number of at least 0."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number."""

Name = Annotated[str, Field(strict=True, min_length=1)]
"""A text that is not empty."""


def refused(message: str, hint: str) -> PydanticCustomError:
    """The error of a value that this version refuses: what is wrong, and what would be right."""
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint})


def not_built(value: Any, allowed: Any, what: str) -> None:
    """Raise unless ``value`` is ``allowed``, the only one that is simulated; ``what`` names the feature.

    Such options stand in the schema because scenarios of later versions use them; a run never ignores one.
    """
    if value != allowed:
        raise refused(f"{what} is not simulated yet", f"this version takes only {allowed!r}")
