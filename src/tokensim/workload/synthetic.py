"""Synthetic requests that do not depend on each other: arrivals, lengths, system prompts, images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokensim.scenario.sessions import SharedPrefix
from tokensim.scenario.traits import Images
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import streams as names
from tokensim.workload.base import Ints, Segments, Workload
from tokensim.workload.parts import arrivals_of, lengths_drawn, lengths_of
from tokensim.workload.streams import Streams


def synthetic(spec: WorkloadSpec, streams: Streams, folder: Path) -> Workload:
    """The requests of a ``workload:`` section without trace and sessions."""
    arrivals = arrivals_of(spec, streams, spec.num_requests, spec.duration)
    n = len(arrivals.arrival_s)
    inputs, outputs = lengths_drawn(spec, streams, n, folder)
    segments: Segments | None = None
    images = images_drawn(spec.images, streams, n, folder)
    if images is not None:
        inputs = inputs + images
    if spec.shared_prefix is not None:
        groups = prefix_groups(spec.shared_prefix, streams, n)
        segments = _behind_prefix(spec.shared_prefix, groups, inputs)
        inputs = inputs + np.where(groups >= 0, spec.shared_prefix.tokens, 0)
    return Workload(
        arrivals.arrival_s,
        inputs,
        outputs,
        segments=segments,
        concurrency=arrivals.concurrency,
        think_s=arrivals.think_s,
        encoder_tokens=images,
        image_tokens=None if spec.images is None else spec.images.tokens,
    )


def prefix_groups(spec: SharedPrefix, streams: Streams, n: int) -> Ints:
    """Which of the system prompts each of ``n`` requests or sessions has; −1: none."""
    rng = streams(names.PREFIXES)
    groups = rng.randint(0, spec.groups, n, dtype=np.int64)
    return np.where(rng.random_sample(n) < spec.share, groups, -1)


def images_drawn(spec: Images | None, streams: Streams, n: int, folder: Path) -> Ints | None:
    """Tokens of the images of each of ``n`` requests; None if there are no images."""
    if spec is None:
        return None
    number = np.ones(n, dtype=np.int64)
    if spec.per_request is not None:
        number = lengths_of(spec.per_request, folder).sample(streams(names.IMAGES), n)
    some = streams(names.IMAGE_SHARE).random_sample(n) < spec.share
    return np.where(some, number * spec.tokens, 0)


def _behind_prefix(spec: SharedPrefix, groups: Ints, inputs: Ints) -> Segments:
    """Each prompt's system prompt, if it has one, then ``inputs`` tokens of its own."""
    n = len(inputs)
    has = (groups >= 0).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(1 + has)])
    ids = np.empty(offsets[-1], dtype=np.int64)
    tokens = np.full(offsets[-1], spec.tokens, dtype=np.int64)
    ids[offsets[:-1]] = groups
    own = offsets[1:] - 1
    ids[own] = spec.groups + np.arange(n)
    tokens[own] = inputs
    return Segments(offsets, ids, tokens)
