"""The words of a command line as numbers and names, as the engines read them."""

from __future__ import annotations

import json
from typing import Any

LETTERS = {
    **{letter: 1000 ** (i + 1) for i, letter in enumerate("kmgt")},
    **{letter: 1024 ** (i + 1) for i, letter in enumerate("KMGT")},
}
"""vLLM's ``human_readable_int`` (``vllm/engine/arg_utils.py``): ``2k`` is 2,000 and ``2K`` 2,048."""

GIB = 2**30


def whole(text: str) -> int | str:
    """``8192``, ``8k``, ``8K`` as a number; what is none stays as it is, for the scenario to refuse."""
    scale = LETTERS.get(text[-1:], 1)
    try:
        return int(text) if scale == 1 else int(float(text[:-1]) * scale)
    except ValueError:
        return text


def number(text: str) -> float | str:
    """``0.9`` as a number; what is none stays as it is, for the scenario to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def wholes(words: list[str]) -> list[int | str]:
    """``1 2 4``, with spaces or commas between them."""
    return [whole(part) for word in words for part in word.split(",") if part]


def gibibytes(text: str) -> float | str:
    """GiB as bytes."""
    size = number(text)
    return size if isinstance(size, str) else size * GIB


def tree(text: str) -> Any:
    """JSON; what is none stays as it is, for the scenario to refuse."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
