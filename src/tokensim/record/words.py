"""What prompts are made of: token ids, or words, in an order that only a key decides.

A run of content is known by its key. Its first n tokens are the same whatever its length, so that of two
prompts with the same run the shorter is a prefix of the longer, as the workload says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tokensim.errors import InputError

# fmt: off
WORDS = (
    "area", "book", "business", "car", "case", "child", "city", "community", "company", "country", "day",
    "end", "eye", "face", "fact", "family", "father", "force", "friend", "game", "government", "group",
    "hand", "head", "home", "hour", "house", "issue", "job", "kind", "law", "life", "line", "lot", "member",
    "money", "month", "mother", "name", "night", "number", "office", "part", "party", "people", "person",
    "place", "point", "power", "problem", "program", "question", "right", "room", "school", "service",
    "side", "state", "story", "student", "study", "system", "team", "thing", "time", "water", "way", "week",
    "woman", "word", "work", "world", "year",
)
# fmt: on
"""Common English nouns: behind a blank, most tokenizers have each as one token."""

Ids = npt.NDArray[np.uint64]


class Vocabulary(Protocol):
    """Turns runs of content into pieces of a JSON request."""

    def piece(self, key: int, tokens: int) -> bytes:
        """About ``tokens`` tokens of the run ``key``, as JSON without brackets or quotes."""
        ...


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Token ids from ``low`` to below ``high``: exact lengths, for servers that take ids."""

    low: int
    high: int

    def piece(self, key: int, tokens: int) -> bytes:
        """See ``Vocabulary``."""
        ids = self.low + drawn(key, tokens) % np.uint64(self.high - self.low)
        return ",".join(map(str, ids.tolist())).encode()


@dataclass(frozen=True, slots=True)
class Words:
    """Words, each of ``tokens_each`` tokens on average, with a blank before each."""

    tokens_each: float = 1.0
    words: tuple[str, ...] = WORDS

    def piece(self, key: int, tokens: int) -> bytes:
        """See ``Vocabulary``."""
        count = max(round(tokens / self.tokens_each), 1)
        picked = (drawn(key, count) % np.uint64(len(self.words))).tolist()
        return "".join(" " + self.words[i] for i in picked).encode()


def words_of(tokenizer: Path) -> Words:
    """The words that are one token each in ``tokenizer`` (a ``tokenizer.json``); where few are, all words at
    their mean length. Raises ``InputError``."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InputError(
            "a tokenizer needs the package tokenizers",
            where="--tokenizer",
            hint="pip install 'tokensim[tokenizer]', or leave it out: the server is asked instead",
        ) from None
    try:
        encode = Tokenizer.from_file(str(tokenizer)).encode
    except Exception as error:
        raise InputError(
            f"not a tokenizer: {error}", where=f"--tokenizer {tokenizer}", hint="the model's tokenizer.json"
        ) from None
    lengths = {word: len(encode(f" {word}" * 9, add_special_tokens=False)) / 9 for word in WORDS}
    single = tuple(word for word, length in lengths.items() if abs(length - 1) < 0.12)
    if len(single) >= 16:
        return Words(1.0, single)
    return Words(sum(lengths.values()) / len(lengths))


def key_of(seed: int, salt: int, run: int) -> int:
    """The key of content ``run`` under ``seed``; another ``salt`` gives other content everywhere."""
    own = _mixed(np.array([seed % 2**32 + (salt % 2**20 << 32)], dtype=np.uint64))
    return int(_mixed(own + np.uint64(run))[0])


def drawn(key: int, count: int) -> Ids:
    """``count`` numbers of the stream ``key``; the first n are the same for every count."""
    return _mixed(np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mixed(values: Ids) -> Ids:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
