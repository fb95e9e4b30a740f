"""From the columns of a workload to live requests."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from tokensim.memory import Content
from tokensim.scheduling.local import Request, Traits
from tokensim.workload.base import Floats, Ints, Workload

ID_BITS = 64
"""Ids of segments are below 2**63."""


class Requests:
    """Makes the requests of ``workload``, by index."""

    def __init__(self, workload: Workload) -> None:
        self._input = array("q", workload.input_tokens.tobytes())
        self._output = array("q", workload.output_tokens.tobytes())
        self._priority = None if workload.priority is None else array("q", workload.priority.tobytes())
        self._traits = _traits_of(workload)
        self._segments = segments = workload.segments
        self._offsets = None if segments is None else array("q", segments.offsets.tobytes())
        answers = None if segments is None else segments.output_ids
        self._answers = None if answers is None else array("q", answers.tobytes())

    def shares(self, index: int) -> bool:
        """Whether request ``index`` may have parts in common with others that a prefix cache can find."""
        return self._offsets is not None

    def make(self, index: int, arrival_s: float) -> Request:
        """Request ``index``, which arrives at ``arrival_s``. HOT PATH."""
        prompt, output = self._input[index], self._output[index]
        # One that has no answer ends with the step that ends its prompt, as one of a single token does.
        request = Request(index, arrival_s, prompt, output, prompt + (output or 1))
        if self._priority is not None:
            request.priority = self._priority[index]
        if self._traits is not None:
            request.traits = self._traits(index, arrival_s)
        return request

    def identify(self, request: Request) -> None:
        """Say of what tokens ``request`` consists, for the prefix cache of an instance that it enters."""
        segments, offsets, index = self._segments, self._offsets, request.index
        if segments is None or offsets is None:
            return
        first, last = offsets[index], offsets[index + 1]
        ids = segments.ids[first:last].tolist()
        answer = -1 if self._answers is None else self._answers[index]
        adapter = request.traits.adapter
        if adapter >= 0:  # its KV is another than that of the same tokens without it
            ids = [one + ((adapter + 1) << ID_BITS) for one in ids]
            answer += (adapter + 1) << ID_BITS if answer >= 0 else 0
        runs = zip(ids, segments.tokens[first:last].tolist(), strict=True)
        request.shared_output = answer >= 0
        request.content = Content.of_runs(list(runs), answer if answer >= 0 else -1 - index)


def _traits_of(workload: Workload) -> Callable[[int, float], Traits] | None:
    """What makes the traits of a request (by index and arrival); None if the workload says nothing of them.

    A column that is absent has the value that ``Traits`` has by default.
    """

    def reader(column: Ints | Floats | None, default: float) -> Callable[[int], float]:
        if column is None:
            return lambda index: default
        values: list[float] = column.tolist()
        return values.__getitem__

    names = ("tenant", "session", "deadline_s", "predicted_tokens", "adapter", "encoder_tokens")
    if all(getattr(workload, name) is None for name in names):
        return None
    plain = Traits()
    readers = [reader(getattr(workload, name), getattr(plain, name)) for name in names]

    def traits(index: int, arrival_s: float) -> Traits:
        tenant, session, deadline_s, predicted, adapter, encoder = (read(index) for read in readers)
        return Traits(
            int(tenant), int(session), arrival_s + deadline_s, int(predicted), int(adapter), int(encoder)
        )

    return traits
