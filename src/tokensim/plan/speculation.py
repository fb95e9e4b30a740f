"""Speculative decoding worked out for a pool: what its scheduler counts, what drafts, what is accepted.

What vLLM refuses, and what is not simulated, is refused here, before anything runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.model import ModelSpec, load_model
from tokensim.model.drafts import Draft, draft_head
from tokensim.scenario import Engine, Parallel
from tokensim.scenario.speculative import Acceptance, Speculative
from tokensim.scenario.versions import Version, parse_version
from tokensim.scheduling.local.speculation import Acceptance as Accepts
from tokensim.scheduling.local.speculation import Recorded, Sampled, Speculation

EAGLE_LIKE = ("eagle", "eagle3", "mtp")
"""Methods whose layer runs on the target's hidden states (``SpeculativeConfig.use_eagle``)."""

SLOTS_BY_REQUEST = Version(0, 33, 0)
"""From here on a draft model's extra slots count for each scheduled request; before, for ``max_num_seqs`` at
once (``VllmConfig._set_max_num_scheduled_tokens``)."""


@dataclass(frozen=True, slots=True)
class SpeculationPlan:
    """``scheduling`` is what the local scheduler counts; ``draft`` None: the host searches n-grams.

    ``engine`` is what of the engine's options follows from it; ``notes`` say what the reader must know.
    """

    scheduling: Speculation
    draft: Draft | None
    engine: dict[str, Any]
    notes: tuple[str, ...] = ()


def plan_speculation(
    engine: Engine,
    model: ModelSpec,
    parallel: Parallel,
    activation: str,
    weights: str,
    seed: int,
    where: str,
) -> SpeculationPlan | None:
    """What ``engine.speculative`` asks for, for ``model``; None if it asks for nothing.

    Raises ``InputError`` for what cannot be; ``where`` is the path of the engine's section.
    """
    section = engine.speculative
    if section is None:
        return None
    where = f"{where}.speculative"
    _check(section, engine, model, parallel, where)
    drafts, method = section.num_speculative_tokens, section.method
    draft = None
    if method == "draft_model":
        assert section.model is not None
        draft = Draft(load_model(section.model, f"{where}.model"))
        draft.runs.check_parallel(parallel.tensor, where=f"{where}.model, on parallel")
    elif method != "ngram":
        draft = draft_head(model, method, activation, weights, f"{where}.method")
    slots = 1 if method == "draft_model" else 0  # the token that the target adds comes on top of its batch
    by_request = parse_version(engine.version) >= SLOTS_BY_REQUEST
    changes: dict[str, Any] = {}
    notes = []
    if slots and not by_request and engine.max_num_scheduled_tokens is None:
        changes["max_num_scheduled_tokens"] = _without_slots(engine, slots, where)
    if method == "ngram" and engine.async_scheduling:
        changes["async_scheduling"] = False
        notes.append("scheduling is synchronous, as in vLLM with n-gram drafts")
    return SpeculationPlan(
        Speculation(
            tokens=drafts,
            acceptance=_acceptance(section.acceptance, seed, f"{where}.acceptance"),
            lookahead=0 if draft is None else drafts,
            slots=slots if by_request else 0,
            drops_last_block=method in EAGLE_LIKE,
        ),
        draft,
        changes,
        tuple(notes),
    )


def _check(section: Speculative, engine: Engine, model: ModelSpec, parallel: Parallel, where: str) -> None:
    """Refuse what is not simulated, and drafts that never fit."""
    if parallel.pipeline > 1:
        raise InputError(
            "speculative decoding over pipeline stages is not simulated",
            where=where,
            hint="give pipeline: 1, or leave out engine.speculative",
        )
    if parallel.data > 1 and model.moe is not None:
        raise InputError(
            "data-parallel ranks of a model of experts step together; with speculation that is not simulated",
            where=where,
            hint="give data: 1 and more replicas, or leave out engine.speculative",
        )
    assert engine.max_num_batched_tokens is not None
    if section.num_speculative_tokens >= engine.max_num_batched_tokens:
        raise InputError(
            f"{section.num_speculative_tokens} drafts and a token do not fit into max_num_batched_tokens ="
            f" {engine.max_num_batched_tokens}",
            where=f"{where}.num_speculative_tokens",
            hint=f"at most {engine.max_num_batched_tokens - 1}",
        )


def _without_slots(engine: Engine, slots: int, where: str) -> int:
    """The budget of a step less ``slots`` for each of the most requests that it can have."""
    assert engine.max_num_batched_tokens is not None and engine.max_num_seqs is not None
    left = engine.max_num_batched_tokens - slots * engine.max_num_seqs
    if left < 1:
        raise InputError(
            f"max_num_batched_tokens = {engine.max_num_batched_tokens} leaves nothing to schedule beside"
            f" {slots * engine.max_num_seqs} slots of the draft model, {slots} for each of max_num_seqs",
            where=where,
            hint="a larger max_num_batched_tokens, or a smaller max_num_seqs",
        )
    return left


def _acceptance(section: Acceptance, seed: int, where: str) -> Accepts:
    """What decides how many drafts are accepted."""
    if section.rate is not None:
        return Sampled((section.rate,), seed)
    if section.per_position is not None:
        return Sampled(tuple(section.per_position), seed)
    recorded = section.recorded
    if isinstance(recorded, str):
        recorded = _read(Path(recorded), f"{where}.recorded")
    assert recorded is not None
    return Recorded(tuple(recorded))


def _read(file: Path, where: str) -> list[int]:
    """Accepted drafts from a JSON file; raises ``InputError`` unless it holds a list of whole numbers."""
    at = f"{where}: {file}"
    try:
        counts = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=at, hint="a JSON list of accepted drafts: [0, 2, 3]") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=at) from None
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}", where=at) from None
    if not isinstance(counts, list) or not counts or not all(type(c) is int and c >= 0 for c in counts):
        raise InputError("must hold a list of whole numbers of 0 or more", where=at, hint="e.g. [0, 2, 3, 1]")
    return counts
