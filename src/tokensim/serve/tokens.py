"""How many tokens is this text, and which: by a tokenizer, or by a rule of thumb where there is none.

The rule: up to eight letters with the space before them are a token, and so are up to three digits, up to two
punctuation marks, any other character. That gives 3.6 characters a token on this project's own documentation
(OpenAI's rule of thumb for English is 4). It is stable, and a new line or a filler word that is appended does
not change the tokens before it.

Answers are made of filler words, each of which is one token wherever it stands: an answer of ``n`` tokens
that a client sends back is the same ``n`` tokens again, and the prefix cache finds them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

from tokensim.errors import InputError

PIECE = re.compile(r" ?[A-Za-z]{1,8}| ?[0-9]{1,3}| ?[!-/:-@\[-`{-~]{1,2}|\s|.", re.DOTALL)

FILLER = tuple(
    " " + word
    for word in [
        "the",
        "and",
        "for",
        "that",
        "this",
        "with",
        "from",
        "have",
        "they",
        "will",
        "what",
        "when",
        "your",
        "which",
        "their",
        "would",
        "there",
        "could",
        "other",
        "about",
        "many",
        "then",
        "them",
        "these",
        "some",
        "make",
        "like",
        "into",
        "time",
        "look",
        "more",
        "write",
        "number",
        "way",
        "people",
        "water",
        "call",
        "first",
        "who",
        "may",
        "down",
        "side",
        "been",
        "now",
        "find",
        "any",
        "new",
        "work",
        "part",
        "take",
        "get",
        "place",
        "made",
        "live",
        "where",
        "after",
        "back",
        "little",
        "only",
        "round",
        "man",
        "year",
        "came",
        "show",
        "every",
        "good",
        "give",
        "our",
        "under",
        "name",
        "very",
        "through",
        "just",
        "form",
        "great",
        "think",
        "say",
        "help",
        "low",
        "line",
        "differ",
        "turn",
        "cause",
        "much",
        "mean",
        "before",
        "move",
        "right",
        "boy",
        "old",
        "too",
        "same",
        "tell",
        "does",
        "set",
        "three",
        "want",
        "air",
        "well",
        "also",
        "play",
        "small",
        "end",
        "put",
        "home",
        "read",
        "hand",
        "port",
        "large",
        "spell",
        "add",
        "even",
        "land",
        "here",
        "must",
        "big",
        "high",
        "such",
        "follow",
        "act",
        "why",
        "ask",
        "men",
        "change",
        "went",
        "light",
        "kind",
        "off",
        "need",
        "house",
        "picture",
        "try",
        "again",
        "animal",
        "point",
        "mother",
        "world",
        "near",
        "build",
        "self",
        "earth",
        "father",
        "head",
        "stand",
        "own",
        "page",
        "should",
        "country",
        "found",
        "answer",
        "school",
        "grow",
        "study",
        "still",
        "learn",
        "plant",
        "cover",
        "food",
        "sun",
        "four",
        "between",
        "state",
        "keep",
        "eye",
        "never",
        "last",
        "let",
        "thought",
        "city",
        "tree",
        "cross",
        "farm",
        "hard",
        "start",
        "might",
        "story",
        "saw",
        "far",
        "sea",
        "draw",
        "left",
        "late",
        "run",
        "while",
        "press",
        "close",
        "night",
        "real",
        "life",
        "few",
        "north",
        "open",
        "seem",
        "together",
        "next",
        "white",
        "children",
        "begin",
        "got",
        "walk",
        "example",
        "ease",
        "paper",
        "group",
        "always",
        "music",
        "those",
        "both",
        "mark",
        "often",
        "letter",
        "until",
        "mile",
        "river",
        "car",
        "feet",
        "care",
        "second",
        "book",
    ]
    if len(word) <= 8
)
"""Short English words, each one token of the rule above."""

FEWEST_WORDS = 32
"""Filler words that a tokenizer must have for answers not to look alike."""


class Tokens(Protocol):
    """Turns text into tokens. ``words`` are filler, ``word_ids`` their tokens."""

    words: tuple[str, ...]
    word_ids: tuple[int, ...]

    def encode(self, text: str, special: bool) -> list[int]:
        """The tokens of ``text``; ``special``: with those that the tokenizer puts around a whole prompt."""
        ...


class RuleOfThumb:
    """The rule above; the id of a token is a checksum of its text."""

    def __init__(self) -> None:
        self.words = FILLER
        self.word_ids = tuple(crc32(word.encode()) for word in FILLER)

    def encode(self, text: str, special: bool) -> list[int]:
        """See ``Tokens``."""
        return [crc32(piece.encode("utf-8", "surrogatepass")) for piece in PIECE.findall(text)]


class HuggingFace:
    """A ``tokenizer.json`` at ``path``. Raises ``InputError``."""

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise InputError(
                "the package 'tokenizers' is not installed",
                where="--tokenizer",
                hint="pip install 'tokensim[tokenizer]', or leave --tokenizer out for a rule of thumb",
            ) from None
        if path.is_dir():
            path = path / "tokenizer.json"
        if not path.is_file():
            raise InputError("no such file", where=str(path), hint="give the path of a tokenizer.json")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the binding raises a bare Exception
            raise InputError(
                f"is not a tokenizer.json ({error})", where=str(path), hint="give that of the model"
            ) from None
        self.words, self.word_ids = self._filler(str(path))

    def encode(self, text: str, special: bool) -> list[int]:
        """See ``Tokens``."""
        clean = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=special).ids
        return ids

    def _filler(self, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Words of the vocabulary that are one token each, also one after the other."""
        candidates = []
        for token, number in sorted(self._tokenizer.get_vocab().items(), key=lambda item: int(item[1])):
            if re.fullmatch("[Ġ▁][a-z]{2,8}", token):
                candidates.append((" " + token[1:], number))
        words = [
            (word, number) for word, number in candidates[:4096] if self._ids("a" + word)[-1:] == [number]
        ]
        words = words[:512]
        text, numbers = "".join(word for word, _ in words), [number for _, number in words]
        if len(words) < FEWEST_WORDS or self._ids("a" + text)[-len(numbers) :] != numbers:
            raise InputError(
                "answers cannot be made of it: it has too few words that are one token each",
                where=where,
                hint="leave --tokenizer out for a rule of thumb",
            )
        return tuple(word for word, _ in words), tuple(numbers)

    def _ids(self, text: str) -> list[int]:
        return self.encode(text, False)


class Filler:
    """The text of one answer: word ``k`` is a function of ``k`` and the ``seed`` of the answer."""

    __slots__ = ("_first", "_stride", "_words")

    def __init__(self, words: tuple[Any, ...], seed: int) -> None:
        self._words = words
        self._first = seed % len(words)
        self._stride = 1 + (seed // len(words)) % (len(words) - 1)

    def __getitem__(self, k: int) -> Any:
        return self._words[(self._first + k * self._stride) % len(self._words)]

    def some(self, first: int, count: int) -> list[Any]:
        """``count`` of them from ``first`` on."""
        words, n, stride = self._words, len(self._words), self._stride
        at = (self._first + first * stride) % n
        return [words[(at + k * stride) % n] for k in range(count)]
