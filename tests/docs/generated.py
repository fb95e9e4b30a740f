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
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from commands import commands
from printed import printed
from pydantic import BaseModel

import tokensim
from tokensim.hardware.links import link_presets
from tokensim.scenario import arrivals, lengths, sessions, traits
from tokensim.scenario.admission import Admission, TenantLimits
from tokensim.scenario.engine import Engine
from tokensim.scenario.experts import ExpertSpread
from tokensim.scenario.lora import Lora
from tokensim.scenario.memory import Memory, MemoryTier
from tokensim.scenario.network import GivenPort, Network, Spine
from tokensim.scenario.operations import Autoscale, Disaggregation, Failure, Restart, Throttle
from tokensim.scenario.scale import Scale
from tokensim.scenario.schema import Cluster, Electricity, Parallel, Performance, Pool, Router, Scenario, Slo
from tokensim.scenario.speculative import Acceptance, Speculative
from tokensim.scenario.workload import TraceSpec, WorkloadSpec
from tokensim.scenario.yaml_text import dotted
from tokensim.server_flags import DIALECTS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


def local_schedulers() -> str:
    """What the comparison of ``docs/local-schedulers.md`` prints."""
    return fenced(output_of([sys.executable, "examples/compare_schedulers.py"], ROOT))


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


def caching() -> str:
    """The examples of sessions with and without prefix caching."""
    rows = [
        "| example | prefix caching | prefix hits | TTFT mean | TTFT p95 | TPOT mean |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("chat_sessions", "agents"):
        scenario = tokensim.Scenario.from_yaml(ROOT / "examples" / f"{name}.yaml")
        for caches in (True, False):
            engine = scenario.engine.model_copy(update={"enable_prefix_caching": caches})
            summary = tokensim.simulate(scenario.model_copy(update={"engine": engine})).summary
            ttft, tpot = summary.latency.ttft_s, summary.latency.tpot_s
            times = (ttft.mean, ttft.p95, tpot.mean)
            share = 100 * (summary.tokens.cached_share or 0.0)
            shown = " | ".join(f"{1e3 * (time or 0.0):,.0f} ms" for time in times)
            rows.append(f"| `{name}.yaml` | {'on' if caches else 'off'} | {share:.1f} % | {shown} |")
    return "\n".join(rows) + "\n"


def memory_tiers() -> str:
    """What ``examples/memory_tiers.py`` prints."""
    return fenced(output_of([sys.executable, str(ROOT / "examples" / "memory_tiers.py")], ROOT))


def spent() -> str:
    """The lines on money and energy that ``docs/energy-and-cost.md`` shows."""
    command = [*CLI, "run", "examples/two_generations.yaml", "--output"]
    with tempfile.TemporaryDirectory() as folder:
        lines = output_of([*command, folder], ROOT).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("cost"))
    last = next(i for i, line in enumerate(lines) if line.startswith("over time"))
    return fenced("\n".join(line for line in lines[first:last] if not line.startswith("simulated in")))


SPREADS: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("even choices", {"balance": "uniform"}),
    ("Zipf 0.5", {"balance": "zipf", "exponent": 0.5}),
    ("Zipf 1.0", {"balance": "zipf", "exponent": 1.0}),
    ("Zipf 1.0, EPLB with 32 copies", {"balance": "zipf", "exponent": 1.0, "eplb": True}),
)
MIXTURES: tuple[tuple[str, str, str, dict[str, int]], ...] = (
    ("Qwen3-30B-A3B, one H100", "Qwen/Qwen3-30B-A3B", "h100-sxm-80gb", {}),
    ("Qwen3-30B-A3B, EP 4 (tensor 4)", "Qwen/Qwen3-30B-A3B", "h100-sxm-80gb", {"tensor": 4, "expert": 4}),
    ("DeepSeek-V3, EP 8 (tensor 8)", "deepseek-ai/DeepSeek-V3", "h200-sxm-141gb", {"tensor": 8, "expert": 8}),
    ("DeepSeek-V3, EP 32 (data 32)", "deepseek-ai/DeepSeek-V3", "h200-sxm-141gb", {"data": 32, "expert": 32}),
)


def mixtures() -> str:
    """Step times by how popular experts are."""
    rows = [
        "| model, ranks | experts | 16 decodes | 64 | 256 | prefill of 4,096 |",
        "|---|---|---|---|---|---|",
    ]
    for name, model, hardware, parallel in MIXTURES:
        for spread, given in SPREADS:
            if given is not None and given.get("eplb"):
                if not parallel:
                    continue
                given = {**given, "num_redundant_experts": 32}
            times = step_times(model, hardware, parallel, given)
            rows.append(f"| {name} | {spread} | " + " | ".join(f"{s * 1e3:.1f} ms" for s in times) + " |")
    return "\n".join(rows) + "\n"


def step_times(model: str, hardware: str, parallel: dict[str, int], experts: Any) -> list[float]:
    """Seconds of a step in which every rank has 16, 64, 256 decodes at 1,024 tokens, or a prefill."""
    from tokensim.cost.ranks import CompiledRanksCost, RankStep
    from tokensim.model import load_model
    from tokensim.plan import plan_pool

    scenario = Scenario.model_validate(
        {
            "model": model,
            "cluster": {"pools": [{"hardware": hardware, "parallel": parallel}]},
            "performance": {"operators": "builtin", "experts": experts},
            "workload": {
                "arrivals": {"process": "poisson", "rate": 1},
                "input_tokens": 1,
                "output_tokens": 1,
                "num_requests": 1,
            },
        }
    )
    cost = plan_pool(scenario, 0, load_model(model)).cost
    data = parallel.get("data", 1)
    steps = [RankStep(n, n * 1024.0, 0, 0, 1024, (), n) for n in (16, 64, 256)]
    steps.append(RankStep(0, 0.0, 0, 0, 0, [(4096, 0)], 1))
    if data > 1:
        return [CompiledRanksCost(cost, data).price([step] * data).first_s for step in steps]
    return [
        cost.step_time(0, 0, 0, 0, step.chunks, 1)
        if step.chunks
        else cost.decode_run(step.decode, step.context, 0, 0, step.longest)[0]
        for step in steps
    ]


def compare_links() -> str:
    """What ``examples/compare_links.py`` prints: a table."""
    return output_of([sys.executable, str(ROOT / "examples" / "compare_links.py")], ROOT)


def lines_of_run(name: str, *labels: str) -> str:
    """Lines of the report on an example: those that begin with one of ``labels``."""
    report = output_of([*CLI, "run", str(ROOT / "examples" / f"{name}.yaml"), "--no-output"], ROOT)
    return fenced("\n".join(line for line in report.splitlines() if line.startswith(labels)))


def slots() -> str:
    """What the example with adapters gives with more and fewer slots."""
    rows = [
        "| `max_loras` | TTFT p50 | TTFT p99 | TPOT | KV blocks | swaps | kernels of adapters |",
        "|---|---|---|---|---|---|---|",
    ]
    tree = Scenario.from_yaml(ROOT / "examples" / "lora.yaml").model_dump()
    tree["performance"]["operators"] = "builtin"
    for most in (4, 8, 16, 32):
        tree["engine"]["lora"]["max_loras"] = most
        summary = tokensim.simulate(Scenario.model_validate(tree)).summary
        ttft, tpot = summary.latency.ttft_s, summary.latency.tpot_s
        seconds = {share.operator: share.seconds for share in summary.time.operators}
        blocks = sum(instance.num_blocks for instance in summary.usage.instances)
        kernels = seconds["adapters"] / summary.time.step_s
        assert ttft.p50 and ttft.p99 and tpot.mean
        rows.append(
            f"| {most} | {ttft.p50:.2f} s | {ttft.p99:.2f} s | {tpot.mean * 1e3:.1f} ms | {blocks:,} |"
            f" {seconds['wait_for_copies']:.1f} s | {kernels:.0%} of the time |"
        )
    return "\n".join(rows) + "\n"


def output_of(command: list[str], folder: str | Path) -> str:
    """What ``command`` prints in ``folder``."""
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return done.stdout


def in_concepts(page: str, number: int) -> str:
    """What the Python block ``number`` of a page of concepts prints."""
    return fenced(printed(ROOT, Path("docs") / "concepts" / f"{page}.md", number, ENVIRONMENT))


def fenced(text: str) -> str:
    """``text`` as a block of plain text."""
    return "```text\n" + "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n```\n"


PARTS: dict[str, Callable[[], str | None]] = {
    "scenario": lambda: keys_table(Scenario),
    "cluster": lambda: keys_table(Cluster),
    "pool": lambda: keys_table(Pool),
    "parallel": lambda: keys_table(Parallel),
    "scale": lambda: keys_table(Scale),
    "router": lambda: keys_table(Router),
    "admission": lambda: keys_table(Admission),
    "limits": lambda: keys_table(TenantLimits),
    "network": lambda: keys_table(Network),
    "link": lambda: keys_table(GivenPort),
    "spine": lambda: keys_table(Spine),
    "links": links_table,
    **{f"flags-{each.name}": partial(flags_table, each.name) for each in DIALECTS},
    "engine": lambda: keys_table(Engine),
    "memory": lambda: keys_table(Memory),
    "tier": lambda: keys_table(MemoryTier),
    "memory-tiers": memory_tiers,
    "speculative": lambda: keys_table(Speculative),
    "acceptance": lambda: keys_table(Acceptance),
    "performance": lambda: keys_table(Performance),
    "workload": lambda: keys_table(WorkloadSpec),
    "trace": lambda: keys_table(TraceSpec),
    "joint": lambda: keys_table(lengths.JointLengths),
    "slo": lambda: keys_table(Slo),
    "sessions": lambda: keys_table(sessions.Sessions),
    "prefix": lambda: keys_table(sessions.SharedPrefix),
    "images": lambda: keys_table(traits.Images),
    "adapters": lambda: keys_table(traits.Adapters),
    "deadline": lambda: keys_table(traits.Deadline),
    "predictions": lambda: kinds_table(PREDICTIONS, "predictor"),
    "arrivals": lambda: kinds_table(PROCESSES, "process"),
    "think": lambda: kinds_table(THINK_TIMES, "distribution"),
    "lengths": lambda: kinds_table(DISTRIBUTIONS, "distribution"),
    "disaggregation": lambda: keys_table(Disaggregation),
    "compare-links": compare_links,
    "autoscale": lambda: keys_table(Autoscale),
    "failure": lambda: keys_table(Failure),
    "restart": lambda: keys_table(Restart),
    "throttle": lambda: keys_table(Throttle),
    "autoscale-run": lambda: lines_of_run(
        "autoscale", "latency", "TTFT", "TPOT", "replicas", "changes", "cost"
    ),
    "failures-run": lambda: lines_of_run(
        "failures", "latency", "TTFT", "TPOT", "replicas", "changes", "cost"
    ),
    "quickstart": quickstart,
    "caching": caching,
    "measured": measured,
    "explain": explained,
    "local-schedulers": local_schedulers,
    "electricity": lambda: keys_table(Electricity),
    "spent": spent,
    "experts": lambda: keys_table(ExpertSpread),
    "mixtures": mixtures,
    "lora": lambda: keys_table(Lora),
    "slots": slots,
    "commands": commands,
    "five-requests": lambda: in_concepts("step-runs", 1),
    "longer-answers": lambda: in_concepts("step-runs", 2),
    "narrow-budget": lambda: in_concepts("the-schedule", 1),
    "step-times": lambda: in_concepts("time-of-a-step", 1),
    "kv-capacity": lambda: in_concepts("memory", 1),
    "shared-prompts": lambda: in_concepts("memory", 2),
    "apart": lambda: in_concepts("prefill-decode", 1),
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
