"""How the server wants to be asked, found out by asking: a few tiny requests before anything is measured.

Servers differ in what they take and some refuse fields that they do not know. The trial begins with the most
exact form (token ids, forced length, usage with every chunk) and gives up what is refused. Nothing is taken
for granted: ids count only if the server's own usage says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tokensim.errors import InputError
from tokensim.record.client import Outcome, ask
from tokensim.record.dialect import Dialect, Endpoint
from tokensim.record.flavours import Flavour
from tokensim.record.probe import ServerFacts
from tokensim.record.words import TokenIds, Vocabulary, Words, key_of

if TYPE_CHECKING:
    import aiohttp

PromptKind = Literal["auto", "ids", "text"]
EndpointChoice = Literal["auto", "completions", "chat"]

RANGES = ((1000, 30_000), (300, 1000), (3, 250))
"""Token ids to try, from low to below high: the first are ordinary tokens of every large vocabulary (32,000
tokens and more), the last fit a vocabulary of bytes; those below are special in most."""

PROMPTS = (32, 160)
"""Words of the two prompts that tell how many tokens a word has, and how many come with every prompt."""

OUTPUT = 4
GIVEN_UP = frozenset({400, 404, 405, 415, 422, 500, 501})
"""Statuses after which another form is tried; others (a wrong key, too many requests) end the trial."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How the server is asked: ``dialect``, what prompts are made of, and how many tokens come with each
    prompt by themselves. ``forced``: it gives as many tokens as asked for. ``usage``: it tells lengths.
    ``notes`` for the reader of the case."""

    dialect: Dialect
    vocabulary: Vocabulary
    overhead: int
    forced: bool
    usage: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user decided beforehand; ``vocabulary`` comes from a tokenizer, ``extra`` goes into every
    request."""

    endpoint: EndpointChoice = "auto"
    prompts: PromptKind = "auto"
    vocabulary: Words | None = None
    extra: Mapping[str, Any] | None = None


async def find_manner(
    session: aiohttp.ClientSession,
    base: str,
    facts: ServerFacts,
    wish: Wish,
    clock: Callable[[], float],
    timeout_s: float,
    *,
    with_answers: bool = False,
) -> Manner:
    """Try forms until one works; raises ``InputError`` with what the server said if none does.

    A request may take ``timeout_s``. ``with_answers``: prompts will hold earlier answers, so that ids are of
    use only if the server tells those of its answers too.
    """
    last = "nothing was tried"
    room = (facts.max_model_len or 1 << 30) - OUTPUT
    sizes = tuple(min(size, max(room // 8 * part, 1)) for part, size in zip((1, 4), PROMPTS, strict=True))
    for dialect, vocabulary in _forms(facts, wish):
        tried = Outcome(0, clock())
        for number, size in enumerate(sizes):
            outcome = await _try(session, dialect, vocabulary, size, number, timeout_s, clock)
            if not outcome.usable:
                last = outcome.message
                if outcome.status in ("refused", "bad-answer") and outcome.http_status in {*GIVEN_UP, 200}:
                    break
                raise InputError(f"a first small request failed: {last}", where=base, hint=_advice(outcome))
            if number == 0:
                tried = outcome
                continue
            manner = _measured(dialect, vocabulary, tried, outcome, sizes, wish)
            if manner is None:
                last = "token ids were not taken as such"
            elif with_answers and dialect.ids and len(outcome.token_ids) != outcome.output_tokens:
                last = "prompts hold earlier answers, whose token ids the server does not tell"
            else:
                return manner
    raise InputError(
        f"no way of asking this server works: {last}",
        where=base,
        hint="it must stream /v1/completions or /v1/chat/completions; --model names the model",
    )


def _forms(facts: ServerFacts, wish: Wish) -> Iterator[tuple[Dialect, Vocabulary]]:
    """Ways to ask, the most exact first."""
    flavour = facts.engine
    endpoints: Iterable[Endpoint] = ("completions", "chat") if wish.endpoint == "auto" else (wish.endpoint,)
    for endpoint in endpoints:
        vocabularies: list[Vocabulary] = []
        takes_ids = flavour.takes_ids and wish.prompts == "auto" and wish.vocabulary is None
        if endpoint == "completions" and (takes_ids or wish.prompts == "ids"):
            vocabularies += [TokenIds(low, high) for low, high in RANGES]
        if wish.prompts != "ids":
            vocabularies.append(wish.vocabulary or Words())
        for vocabulary, fields in itertools.product(vocabularies, _fields(flavour, wish)):
            lengths = flavour.length_fields if fields.get("ignore_eos") else ("max_tokens",)
            ids = isinstance(vocabulary, TokenIds)
            yield (
                Dialect(endpoint, facts.model, ids, fields, lengths, ids and flavour.returns_ids),
                vocabulary,
            )


def _fields(flavour: Flavour, wish: Wish) -> list[dict[str, Any]]:
    """Fields from all that is wanted down to what every server of this kind takes."""
    own = dict(wish.extra or {})
    usage = {"stream_options": {"include_usage": True}}
    each = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    sampling = {"temperature": 0.0}
    wanted = [{**sampling, **flavour.extra, **(each if flavour.usage_each else usage), **own}]
    wanted += [
        {**sampling, **flavour.extra, **usage, **own},
        {**sampling, **usage, **own},
        {**sampling, **own},
    ]
    return [fields for number, fields in enumerate(wanted) if fields not in wanted[:number]]


async def _try(
    session: aiohttp.ClientSession,
    dialect: Dialect,
    vocabulary: Vocabulary,
    size: int,
    number: int,
    timeout_s: float,
    clock: Callable[[], float],
) -> Outcome:
    body = dialect.body([vocabulary.piece(key_of(0, 0xFFFFF, number), size)], OUTPUT, {}, needed=True)
    for _ in range(2):  # a server may close the connection of the question before
        outcome = Outcome(number, clock())
        await ask(
            session,
            dialect.path,
            body,
            outcome,
            OUTPUT,
            clock=clock,
            came=clock,
            timeout_s=timeout_s,
            keep=True,
        )
        if outcome.status != "closed":
            break
    return outcome


def _measured(
    dialect: Dialect, vocabulary: Vocabulary, few: Outcome, many: Outcome, sizes: tuple[int, ...], wish: Wish
) -> Manner | None:
    """What two answers tell; None if ids were not taken as ids."""
    forced = few.output_tokens == many.output_tokens == OUTPUT
    usage = few.input_tokens > 0 and many.input_tokens > 0
    notes = (
        []
        if forced
        else ["the server does not force the length of answers: they end when the model ends them"]
    )
    if not usage:
        notes.append(
            "the server tells no lengths: those of prompts are as planned, a chunk counts as a token"
        )
        if dialect.ids:
            return None
        return Manner(dialect, vocabulary, 0, forced, usage, tuple(notes))
    each = (many.input_tokens - few.input_tokens) / max(sizes[1] - sizes[0], 1)
    if dialect.ids:
        extra = few.input_tokens - sizes[0]
        good = abs(each - 1.0) < 1e-9 and 0 <= extra <= 8
        return Manner(dialect, vocabulary, extra, forced, usage, tuple(notes)) if good else None
    if isinstance(vocabulary, Words) and wish.vocabulary is None and each > 0:
        vocabulary = replace(vocabulary, tokens_each=each)
    own = vocabulary.tokens_each if isinstance(vocabulary, Words) else 1.0
    overhead = max(round(few.input_tokens - sizes[0] * own), 0)
    return Manner(dialect, vocabulary, overhead, forced, usage, tuple(notes))


def _advice(outcome: Outcome) -> str:
    if outcome.http_status in (401, 403):
        return "--api-key, or TOKENSIM_API_KEY in the environment"
    if outcome.status == "timeout":
        return "is it still loading? --timeout gives it longer"
    return "is it an OpenAI-compatible server that streams?"
