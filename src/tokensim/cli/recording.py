"""What ``tokensim record`` is asked for: the scenario, the workload that is sent, and how it is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokensim.record.recording import Recording
    from tokensim.record.run import Options
    from tokensim.scenario.loading import Document
    from tokensim.scenario.schema import Scenario
    from tokensim.workload.base import Workload

KEY = "TOKENSIM_API_KEY"
"""The environment variable that may hold the server's key, so that it stands in no list of processes."""

STAND_INS: Mapping[str, Any] = {"model": "unknown", "cluster": {"pools": [{"hardware": "unknown"}]}}
"""What a recording does without: a server runs, whatever it runs on."""


def scenario_of(document: Document, recording: Recording) -> tuple[dict[str, Any], list[str]]:
    """The scenario of the case, the user's with the server's model where it has none, and notes on that.

    A server may call a model as it likes: what it loaded, or what the model is an adapter of, comes first.
    """
    tree = {key: value for key, value in document.data.items() if key not in ("workload", "seed", "slo")}
    facts = recording.facts
    if "model" in tree or not facts.model:
        return tree, []
    names = (facts.root, facts.parent, facts.model)
    known = next((name for name in names if _is_model(name)), None)
    notes = []
    if known is None:
        notes.append(
            f"no model '{facts.model}' is known here: record with --set model=ID (or a config.json), or write"
            " it into case.yaml (scenario, model)"
        )
    elif facts.parent:
        notes.append(f"{facts.model} is an adapter of {known}: the scenario is of the model without it")
    return {"model": known or facts.model, **tree}, notes


def _is_model(name: str) -> bool:
    """Whether ``name``, which a server tells, is a model here: of the catalog, registered, or a path that is
    here too."""
    from tokensim.errors import InputError
    from tokensim.model.load import catalog_names, load_model
    from tokensim.registry import register

    if name in register.model.names() or name.lower() in map(str.lower, catalog_names()):
        return True
    try:
        return Path(name).is_absolute() and bool(load_model(name))
    except InputError:
        return False


def document_of(
    scenario: Path | None,
    workload: Path | None,
    hardware: str | None,
    overrides: list[str],
    flags: Mapping[str, str | None],
    concurrency: int | None,
    think_time: str | None,
    max_in_flight: int | None,
) -> Document:
    """What the user says: the scenario as far as it is given, with the workload that is to be sent."""
    from tokensim.cli.flags import apply_flags
    from tokensim.errors import InputError
    from tokensim.scenario.loading import Document, absolute_paths, read_document, read_mapping

    document = read_document(scenario) if scenario else Document({}, "command line")
    if workload is not None:
        tree, _ = read_mapping(workload, "workload", "--rate 2 --input-tokens 512 --output-tokens 128")
        section = tree.get("workload", tree)
        whole = absolute_paths({"workload": section}, workload.absolute().parent)
        document.set(("workload",), whole["workload"], f"--workload {workload}")
    if hardware is not None:
        if "cluster" not in document.data:
            document.data["cluster"] = {"pools": [{}]}
        document.set(("cluster", "pools", 0, "hardware"), hardware, f"--hardware {hardware}")
    document.data.setdefault("workload", {})
    apply_flags(document, flags)
    if concurrency is not None:
        if flags.get("rate") is not None:
            raise InputError("a closed loop has no rate", where="--rate", hint="--rate or --concurrency")
        users: dict[str, Any] = {"process": "closed-loop", "concurrency": concurrency}
        if think_time is not None:
            users["think_time"] = think_time
        document.set(("workload", "arrivals"), users, "--concurrency")
    elif think_time is not None:
        raise InputError("only a closed loop has pauses", where="--think-time", hint="give --concurrency too")
    if max_in_flight is not None:
        document.set(("workload", "max_in_flight"), max_in_flight, "--max-in-flight")
    for override in overrides:
        document.override(override)
    return document


def workload_of(document: Document) -> tuple[int, Workload]:
    """The seed and the requests; what is given of the scenario is checked with them, as a whole."""
    from tokensim.cli.flags import DEFAULT_NUM_REQUESTS
    from tokensim.errors import InputError
    from tokensim.scenario.loading import absolute_paths
    from tokensim.workload.build import build_workload

    section = document.data["workload"]
    if not section:
        raise InputError(
            "no workload is given",
            hint="--scenario, --workload or --trace FILE; or --rate R --input-tokens N --output-tokens M",
        )
    if isinstance(section, dict) and not {"trace", "sessions", "num_requests", "duration"} & section.keys():
        document.set(("workload", "num_requests"), DEFAULT_NUM_REQUESTS, "default")
    document.data = absolute_paths(document.data, Path.cwd())
    checked = _checked(document)
    return checked.seed, build_workload(checked.workload, checked.seed, Path.cwd())


def _checked(document: Document) -> Scenario:
    """What is given of the scenario, checked with stand-ins for what is not: the devices and the model that
    it names are looked up, so that a case does not turn out wrong after the load."""
    from tokensim.errors import InputError
    from tokensim.hardware import load_device
    from tokensim.model.load import load_model
    from tokensim.scenario.loading import Document

    given = document.data
    whole = {**STAND_INS, **given}
    checked = Document(whole, document.where, document.origins).check()
    try:
        for number, pool in enumerate(checked.cluster.pools if "cluster" in given else ()):
            load_device(pool.hardware, f"cluster.pools[{number}].hardware")
        if "model" in given:
            load_model(checked.model)
    except InputError as error:
        raise document.locate(error) from None
    return checked


def options_of(
    endpoint: str, prompts: str, tokenizer: Path | None, extra_body: str | None, **others: Any
) -> Options:
    """How to send: the checked options of the command line, ``others`` as they are."""
    from tokensim.errors import InputError, nearest
    from tokensim.record.run import Options
    from tokensim.record.trial import Wish
    from tokensim.record.words import words_of

    for option, value, known in (
        ("--endpoint", endpoint, ("auto", "completions", "chat")),
        ("--prompts", prompts, ("auto", "ids", "text")),
    ):
        if value not in known:
            raise InputError(f"unknown value '{value}'", where=option, hint=nearest(value, known))
    if endpoint == "chat" and prompts == "ids":
        raise InputError("a chat takes no token ids", where="--prompts ids", hint="--endpoint completions")
    if tokenizer is not None and prompts == "ids":
        raise InputError(
            "a tokenizer is for text", where="--tokenizer", hint="leave it out, or --prompts text"
        )
    extra: Any = {}
    if extra_body is not None:
        try:
            extra = json.loads(extra_body)
        except ValueError as error:
            raise InputError(f"not JSON: {error}", where="--extra-body", hint="an object of fields") from None
        if not isinstance(extra, dict):
            raise InputError("not an object", where="--extra-body", hint='e.g. {"temperature": 1}')
    wish = Wish(
        endpoint=endpoint,  # type: ignore[arg-type]
        prompts=prompts,  # type: ignore[arg-type]
        vocabulary=None if tokenizer is None else words_of(tokenizer),
        extra=extra,
    )
    return Options(wish=wish, **others)


def headers_of(api_key: str | None, given: list[str]) -> dict[str, str]:
    """The headers of every request; a key is sent as OpenAI's clients do."""
    from tokensim.errors import InputError

    headers: dict[str, str] = {}
    key = api_key if api_key is not None else os.environ.get(KEY)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip().replace("-", "").isalnum() or any(c in text for c in "\r\n\0"):
            raise InputError("not a header", where="--header", hint="--header 'Name: value'")
        headers[name.strip()] = value.strip()
    if any(c in value for value in headers.values() for c in "\r\n\0"):
        raise InputError(
            "a line break in the key", where="--api-key", hint="is it the whole key, and only that?"
        )
    return headers
