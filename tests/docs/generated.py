"""The parts of the documentation that follow from the code: tables of keys, and outputs of commands.

    python tests/docs/generated.py        # rewrites them in place

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; ``test_docs.py`` checks that it is
current.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

import tokensim
from tokensim.scenario import arrivals, lengths
from tokensim.scenario.engine import Engine
from tokensim.scenario.schema import Cluster, Parallel, Performance, Pool, Router, Scenario, Slo
from tokensim.scenario.speculative import Acceptance, Speculative
from tokensim.scenario.workload import TraceSpec, WorkloadSpec

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PART = re.compile(r"(<!-- generated: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
CLI = [sys.executable, "-c", "from tokensim.cli import main; main()"]
SOURCE = Path(tokensim.__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUTF8": "1", "COLUMNS": "80"}
"""Commands run what is under test, wherever they run, and print as a terminal of 80 columns would show."""

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
    },
    TraceSpec: {
        "path": "The file: CSV, JSON lines, Parquet, or (ShareGPT) JSON; gzip welcome.",
        "format": "`auto`: recognised by its columns. Else `azure`, `burstgpt`, `mooncake`, `sharegpt`, "
        "`qwen-bailian`, `generic`, or a plug-in's.",
        "rate_scale": "2.0 sends at twice the trace's rate: every time is divided by it.",
        "start": "Requests from then on, counted from the trace's first one; this becomes time zero.",
        "end": "Requests before then, counted from the trace's first one.",
        "limit": "The first so many requests of the window.",
        "resample": "So many requests, drawn with replacement from what is left.",
        "columns": "Our names to the file's (`generic`): `arrival_s`, `input_tokens`, "
        "`output_tokens`, `hash_ids`, `priority`, `request_id`.",
        "time_unit": "What a number in the arrival column counts (`generic`). Null: seconds.",
        "tokenizer": "A Hugging Face `tokenizer.json` that says how long a text is (`sharegpt`).",
        "characters_per_token": "The rule of thumb in its stead (`sharegpt`). Null: 4.",
        "hash_block_tokens": "Prompt tokens that one of `hash_ids` stands for. Null: the format's own.",
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


def quickstart() -> str:
    """What the README's first command prints."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        command = [*CLI, "run", "examples/quickstart.yaml"]
        return fenced(output_of(command, folder))


def explained() -> str:
    """What the first command of ``docs/operator-costs.md`` prints."""
    command = [*CLI, "explain", "examples/quickstart.yaml", "--step", "decode=64@1024"]
    return fenced(output_of([*command, "--operators", "roofline"], ROOT))


def measured() -> str | None:
    """The errors against measured runs; None where these, or the measured tables, are not there."""
    here = any(ROOT.glob("../shared/groundtruth/*/case.yaml"))
    if not here or importlib.util.find_spec("aiconfigurator_core") is None:
        return None
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "accuracy.py"),
        "--sources",
        "tables",
        "--fit-on",
        "none",
    ]
    return output_of(command, ROOT).partition("\n\n")[2].strip() + "\n"


def output_of(command: list[str], folder: str | Path) -> str:
    """What ``command`` prints in ``folder``."""
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return done.stdout


def fenced(text: str) -> str:
    """``text`` as a block of plain text."""
    return "```text\n" + "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n```\n"


PARTS: dict[str, Callable[[], str | None]] = {
    "scenario": lambda: keys_table(Scenario),
    "cluster": lambda: keys_table(Cluster),
    "pool": lambda: keys_table(Pool),
    "parallel": lambda: keys_table(Parallel),
    "router": lambda: keys_table(Router),
    "engine": lambda: keys_table(Engine),
    "speculative": lambda: keys_table(Speculative),
    "acceptance": lambda: keys_table(Acceptance),
    "performance": lambda: keys_table(Performance),
    "workload": lambda: keys_table(WorkloadSpec),
    "trace": lambda: keys_table(TraceSpec),
    "joint": lambda: keys_table(lengths.JointLengths),
    "slo": lambda: keys_table(Slo),
    "arrivals": lambda: kinds_table(PROCESSES, "process"),
    "think": lambda: kinds_table(THINK_TIMES, "distribution"),
    "lengths": lambda: kinds_table(DISTRIBUTIONS, "distribution"),
    "quickstart": quickstart,
    "measured": measured,
    "explain": explained,
}


def current(page: Path) -> str:
    """The text of ``page`` with its generated parts made anew; those that cannot be made stay."""

    def renew(match: re.Match[str]) -> str:
        part = PARTS[match[2]]()
        return match[1] + (match[3] if part is None else part) + match[4]

    return PART.sub(renew, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(current(page), encoding="utf-8")
