"""What the formats share: the file as parsed, the run that is read from it, and which format it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tokensim.errors import InputError


class MeasuredRequest(NamedTuple):
    """One request as a client measured it. Seconds; ``arrival_s`` (meant to be sent) and ``sent_s`` (was
    sent) on one clock of any origin, ``ttft_s`` and ``e2e_s`` counted from ``sent_s``."""

    arrival_s: float
    sent_s: float
    input_tokens: int
    output_tokens: int
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a load generator.

    ``tool`` is its name, ``model`` what it called the model ("" where it does not say), ``max_in_flight`` its
    cap. ``failed`` requests are left out. ``notes``: what the file does not say, and what was taken instead.
    """

    tool: str
    model: str
    max_in_flight: int | None
    requests: list[MeasuredRequest]
    failed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file: ``documents`` are its JSON values (one, or one a line)."""

    path: Path
    documents: list[Any]

    def refuse(self, message: str, hint: str | None = None) -> InputError:
        """The error that says ``message`` about this file."""
        return InputError(message, where=str(self.path), hint=hint)

    def pick(self, runs: Sequence[Any], index: int | None, names: Sequence[str]) -> Any:
        """The run ``index`` (from 1) of several, or the only one."""
        if not runs:
            raise self.refuse("no run in it")
        if index is None and len(runs) == 1:
            return runs[0]
        listed = "; ".join(f"{number}: {name}" for number, name in enumerate(names, 1))
        if index is None:
            raise self.refuse(f"{len(runs)} runs in it", f"say which with --run: {listed}")
        if not 1 <= index <= len(runs):
            raise self.refuse(f"no run {index} in it", f"there are {listed}")
        return runs[index - 1]


class ResultFormat(Protocol):
    """The result file of one load generator."""

    tool: str

    def recognises(self, file: ResultFile) -> bool:
        """Whether the content is of this format."""
        ...

    def read(self, file: ResultFile, index: int | None) -> Run:
        """The run in ``file`` (number ``index``, from 1, of several); raises ``InputError``."""
        ...


def read_run(path: str | Path, index: int | None = None) -> Run:
    """The run in the result file at ``path``; raises ``InputError`` if no format knows it."""
    from tokensim.validation.imports.aiperf import AIPerf
    from tokensim.validation.imports.guidellm import GuideLLM
    from tokensim.validation.imports.vllm import VllmBench

    formats: tuple[ResultFormat, ...] = (VllmBench(), AIPerf(), GuideLLM())
    file = ResultFile(Path(path), _documents(Path(path)))
    for known in formats:
        if known.recognises(file):
            run = known.read(file, index)
            if not run.requests:
                raise file.refuse(
                    f"no request of it succeeded ({run.failed} failed)", "a case needs times of requests"
                )
            return run
    raise file.refuse(
        "not a result file of a known load generator",
        "known: vllm bench serve --save-result --save-detailed, AIPerf's profile_export.jsonl, GuideLLM's"
        " benchmarks.json",
    )


def number(value: Any) -> float:
    """``value`` as a finite number; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def dig(tree: Any, *keys: str) -> Any:
    """``tree[keys[0]][keys[1]]…``; None where a key is not there."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def usable(request: MeasuredRequest) -> bool:
    """Whether all figures of ``request`` are there and possible."""
    known = all(math.isfinite(value) for value in request)
    return (
        known
        and request.input_tokens > 0
        and request.output_tokens > 0
        and 0 < request.ttft_s <= request.e2e_s
    )


def tokens(value: Any) -> int:
    """A token count, or −1 where ``value`` is none."""
    count = number(value)
    return -1 if math.isnan(count) else int(count)


def _documents(path: Path) -> list[Any]:
    """The JSON values in the file: the whole of it, or one a line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except UnicodeDecodeError:
        raise InputError("not a UTF-8 text", where=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    try:
        return [json.loads(text)]
    except ValueError as whole:
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                found.append(json.loads(line))
            except ValueError as error:
                problem = whole if number == 1 else error
                raise InputError(
                    f"not JSON: {problem}", where=f"{path}:{number}", hint="the result file as it was written"
                ) from None
        if not found:
            raise InputError("the file is empty", where=str(path)) from None
        return found
