"""What a server tells of itself before it is asked for anything: models, version, metrics, memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokensim.errors import InputError, nearest
from tokensim.record.exposition import begins_with, labels_of
from tokensim.record.flavours import BY_NAME, OWNERS, PREFIXES, Flavour
from tokensim.record.http import page
from tokensim.validation import case

if TYPE_CHECKING:
    import aiohttp

PAGES = ("/v1/models", "/version", "/metrics", "/props", "/get_server_info", "/info")
TIMEOUT_S = 10.0
"""A server that loads a model answers at once or not at all; ours."""


class ServerFacts(case.ServerFacts):
    """What the server says, as a measured case keeps it; None or "" where it does not. ``metrics``: whether
    it has any that are known."""

    metrics: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What is known, for a file."""
        return self.model_dump(exclude={"metrics"}, exclude_defaults=True)

    @property
    def engine(self) -> Flavour:
        """The kind of server."""
        return BY_NAME[self.flavour]


async def probe(
    session: aiohttp.ClientSession, base: str, flavour: str | None, model: str | None
) -> ServerFacts:
    """Ask the server at ``base`` what it is; ``flavour`` and ``model`` are what the user says.

    Raises ``InputError`` if nobody answers, the key is refused, or the model is not there.
    """
    if flavour is not None and flavour not in BY_NAME:
        raise InputError(f"unknown server '{flavour}'", where="--flavour", hint=nearest(flavour, BY_NAME))
    found = await asyncio.gather(*(page(session, path, TIMEOUT_S) for path in PAGES))
    pages = dict(zip(PAGES, found, strict=True))
    if all(status == 0 for status, _ in pages.values()):
        raise InputError("no answer", where=base, hint="is the server up, and the port right?")
    if pages["/v1/models"][0] in (401, 403):
        raise InputError(
            f"the server refuses the key (HTTP {pages['/v1/models'][0]})",
            where="--api-key",
            hint="or set TOKENSIM_API_KEY in the environment",
        )
    text = pages["/metrics"][1].decode(errors="replace") if pages["/metrics"][0] == 200 else ""
    trees = {path: _tree(*content) for path, content in pages.items() if path != "/metrics"}
    models = [entry for entry in _list(trees["/v1/models"].get("data")) if isinstance(entry, dict)]
    names = [str(entry.get("id")) for entry in models]
    if model is not None and names and model not in names:
        raise InputError(f"the server has no model '{model}'", where="--model", hint=nearest(model, names))
    chosen = model or (names[0] if names else "")
    entry = models[names.index(chosen)] if chosen in names else {}
    kind = flavour or _kind(text, trees, entry)
    parent = next((other for other in models if other.get("id") == entry.get("parent")), None)
    return _facts(kind, chosen, entry, parent, text, trees)


def _kind(text: str, trees: Mapping[str, dict[str, Any]], entry: Mapping[str, Any]) -> str:
    """Which engine it is: by its metrics, by whom it says the model is of, by the pages that only it has."""
    prefix = begins_with(text, PREFIXES)
    if prefix is not None:
        return PREFIXES[prefix]
    if (owner := str(entry.get("owned_by"))) in OWNERS:
        return OWNERS[owner]
    if "default_generation_settings" in trees["/props"]:
        return "llama.cpp"
    if "max_total_num_tokens" in trees["/get_server_info"]:
        return "sglang"
    return "tgi" if "max_total_tokens" in trees["/info"] else "unknown"


def _facts(
    kind: str,
    model: str,
    entry: Mapping[str, Any],
    parent: Mapping[str, Any] | None,
    text: str,
    trees: Mapping[str, dict[str, Any]],
) -> ServerFacts:
    """What all pages say; ``entry`` is that of the model, ``parent`` that of the one it is an adapter of."""
    props, info, tgi = trees["/props"], trees["/get_server_info"], trees["/info"]
    cache = labels_of(text, "vllm:cache_config_info")
    own = props.get("default_generation_settings")
    own = own if isinstance(own, dict) else {}
    versions = (
        trees["/version"].get("version"),
        info.get("version"),
        tgi.get("version"),
        props.get("build_info"),
    )
    lengths = (
        entry.get("max_model_len"),
        info.get("context_length"),
        own.get("n_ctx"),
        tgi.get("max_total_tokens"),
    )
    pool = info.get("max_total_num_tokens")
    caching = {"True": True, "False": False}.get(cache.get("enable_prefix_caching", ""))
    root = _text((parent or entry).get("root"))
    return ServerFacts(
        flavour=kind,
        version=next((str(version) for version in versions if version), ""),
        model=model,
        root=root if root != model else "",
        parent=_text(entry.get("parent")),
        max_model_len=next((length for value in lengths if (length := _whole(value))), None),
        num_gpu_blocks=_whole(cache.get("num_gpu_blocks")) or _whole(pool),
        block_size=_whole(cache.get("block_size"))
        or (_whole(info.get("page_size")) or 1 if _whole(pool) else None),
        max_num_seqs=_whole(props.get("total_slots")) or _whole(info.get("max_running_requests")),
        enable_prefix_caching=caching,
        metrics=begins_with(text, PREFIXES) is not None,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    """``value``, or the number in a text, if it is a whole number of at least 1."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if type(value) is int and 0 < value < 2**53 else None


def _tree(status: int, content: bytes) -> dict[str, Any]:
    if status != 200:
        return {}
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
