"""Tables of keys: of the sections of a scenario, of kinds of a section, of the flags of servers, of links."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from tokensim.hardware.links import link_presets
from tokensim.scenario import arrivals, lengths, traits
from tokensim.scenario.workload import TraceSpec, WorkloadSpec
from tokensim.scenario.yaml_text import dotted
from tokensim.server_flags import DIALECTS

PROCESSES = (
    arrivals.PoissonArrivals,
    arrivals.ConstantArrivals,
    arrivals.GammaArrivals,
    arrivals.WeibullArrivals,
    arrivals.OnOffArrivals,
    arrivals.DiurnalArrivals,
    arrivals.ClosedLoopArrivals,
    arrivals.AllAtOnce,
)
THINK_TIMES = (arrivals.ExponentialThink, arrivals.LognormalThink, arrivals.UniformThink)
PREDICTIONS = (
    traits.Oracle,
    traits.ConstantPrediction,
    traits.LognormalPrediction,
    traits.BucketPrediction,
)
DISTRIBUTIONS = (
    lengths.FixedLength,
    lengths.UniformLength,
    lengths.NormalLength,
    lengths.LognormalLength,
    lengths.ExponentialLength,
    lengths.ZipfLength,
    lengths.EmpiricalLength,
)

MEANINGS: dict[type[BaseModel], dict[str, str]] = {
    WorkloadSpec: {
        "arrivals": "When synthetic requests are sent; beside `trace`: in place of the trace's own times.",
        "input_tokens": "Lengths of prompts: a distribution, or a number for all of them.",
        "output_tokens": "Lengths of answers, likewise.",
        "lengths": "Both lengths drawn together, in place of the two above.",
        "num_requests": "How many synthetic requests; or `duration`.",
        "duration": "For how long synthetic requests are sent; or `num_requests`.",
        "trace": "A file of requests, in place of all of the above but `arrivals`.",
        "max_in_flight": "The client holds a request back while this many are in flight. Null: no cap.",
        "sessions": "Conversations or tasks of agents: requests that follow each other.",
        "shared_prefix": "A system prompt in front of synthetic prompts.",
        "task": "What is asked of the model; `embed` and `score` have no answer.",
        "tenants": "Whose requests (sessions) they are: weights of tenants 0, 1, …, or how many equal ones.",
        "priorities": "How urgent they are: weights of priorities 0 (most urgent), 1, …",
        "deadline": "When the last token is due after the arrival: a duration, or by length.",
        "predicted_tokens": "What a predictor says of the answer's length.",
        "adapters": "LoRA adapters that requests (sessions) need.",
        "images": "Images in synthetic prompts.",
    },
    TraceSpec: {
        "path": "The file: CSV, JSON lines, Parquet, or (ShareGPT) JSON; gzip welcome.",
        "format": "`auto`: recognised by its columns. Else `azure`, `burstgpt`, `mooncake`, `sharegpt`, "
        "`qwen-bailian`, `generic`, or a plug-in's.",
        "rate_scale": "2.0 sends at twice the trace's rate: every time is divided by it.",
        "time_zero": "`first`: the first request comes at 0. `file`: each comes at its own time, beside "
        "failures and the like at theirs, for traces whose zero is a run's (`tokensim serve` leaves them).",
        "start": "Requests from then on, counted from the trace's first one; this becomes time zero.",
        "end": "Requests before then, counted from the trace's first one.",
        "limit": "The first so many requests of the window.",
        "resample": "So many requests, drawn with replacement from what is left.",
        "columns": "Our names to the file's (`generic`): `arrival_s`, `input_tokens`, "
        "`output_tokens`, `hash_ids`, `priority`, `request_id`, `session`, `after`, `delay_s`, `tenant`, "
        "`deadline_s`, `predicted_tokens`, `adapter`, `encoder_tokens`.",
        "time_unit": "What a number in the arrival column counts (`generic`). Null: seconds.",
        "tokenizer": "A Hugging Face `tokenizer.json` that says how long a text is (`sharegpt`).",
        "characters_per_token": "The rule of thumb in its stead (`sharegpt`). Null: 4.",
        "hash_block_tokens": "Prompt tokens that one of `hash_ids` stands for. Null: the format's own.",
        "sessions": "A round waits for the one before it, and for the pause between them.",
        "answer_tpot": "With `sessions`: what each token of an answer took when the trace was recorded; the "
        "rest of the gap between two rounds is the pause. Null: all of it.",
        "options": "Keys of a plug-in's format.",
    },
    lengths.JointLengths: {
        "path": "A CSV, JSON lines or Parquet file with both columns; or `pairs`.",
        "input_column": "Its column of prompt lengths.",
        "output_column": "Its column of answer lengths.",
        "pairs": "`[[input, output], ...]`, in place of a file.",
    },
}
"""What the keys mean of sections that describe them in the docstring of the class."""


def plain(text: str) -> str:
    """A docstring as one line of markdown."""
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def default_of(section: type[BaseModel], key: str) -> str:
    """The default of a key as YAML has it."""
    field = section.model_fields[key]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see its table"
    return f"`{json.dumps(value)}`"


def choices(annotation: Any) -> list[str]:
    """The values of a ``Literal``, however deep it stands in ``annotation``."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [value for part in get_args(annotation) for value in choices(part)]


def keys_table(section: type[BaseModel]) -> str:
    """Key, default and meaning of every key of ``section``."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, field in section.model_fields.items():
        meaning = plain(field.description or MEANINGS[section][key])
        known = choices(field.annotation)
        if known:
            meaning += " One of " + ", ".join(f"`{value}`" for value in known) + "."
        rows.append(f"| `{key}` | {default_of(section, key)} | {meaning} |")
    return "\n".join(rows) + "\n"


def kinds_table(kinds: tuple[type[BaseModel], ...], tag: str) -> str:
    """Name, keys and meaning of each of several sections that are told apart by ``tag``."""
    rows = [f"| `{tag}` | keys | meaning |", "|---|---|---|"]
    for kind in kinds:
        name = choices(kind.model_fields[tag].annotation)[0]
        keys = [
            f"`{key}`" if field.is_required() else f"`{key}` ({default_of(kind, key)})"
            for key, field in kind.model_fields.items()
            if key != tag
        ]
        rows.append(f"| `{name}` | {', '.join(keys)} | {plain(kind.__doc__ or '')} |")
    return "\n".join(rows) + "\n"


def flags_table(engine: str) -> str:
    """The flags of ``engine``'s command line: those with a key, those that stand apart, the inert ones."""
    (dialect,) = (each for each in DIALECTS if each.name == engine)
    other: dict[str, list[str]] = {}
    for table, dashes in ((dialect.aliases, "--"), (dialect.short, "-")):
        for name, called in table.items():
            other.setdefault(called, []).append(f"`{dashes}{name}`")
    rows = ["| flag | key |", "|---|---|"]
    for name, flag in (dialect.keys | dialect.special).items():
        names = ", ".join([f"`--{name}`", *other.get(name, [])])
        value = f": {json.dumps(flag.value)}" if flag.kind == "switch" and flag.value is not True else ""
        rows.append(f"| {names} | `{dotted(flag.path)}{value}` |")
    reasons: dict[str, list[str]] = {}
    for name, (_, why) in dialect.apart.items():
        reasons.setdefault(why, []).append(f"`--{name}`")
    rows += ["", "Not in the scenario, each told with the reason:", ""]
    rows += [f"- {why}: {', '.join(names)}" for why, names in reasons.items()]
    rows += ["", "No time depends on: " + ", ".join(f"`--{name}`" for name in dialect.inert) + "."]
    return "\n".join(rows) + "\n"


def links_table() -> str:
    """The links that are known by name."""
    rows = ["| name | bandwidth | latency | a port of each |", "|---|---|---|---|"]
    for name, preset in link_presets().items():
        link = preset.link
        port = "node" if link.shared else "device"
        bandwidth, latency = link.bandwidth_bytes_per_s / 1e9, link.latency_s * 1e6
        rows.append(f"| `{name}` | {bandwidth:g} GB/s | {latency:g} us | {port} |")
    return "\n".join(rows) + "\n"
