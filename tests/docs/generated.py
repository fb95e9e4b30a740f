"""The parts of the documentation that follow from the code: tables of keys, and outputs of commands.

    python tests/docs/generated.py        # rewrites them in place

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; ``test_docs.py`` checks that it is
current.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from commands import commands
from example_outputs import (
    ROOT,
    compare_links,
    explained,
    in_concepts,
    lines_of_run,
    local_schedulers,
    measured,
    memory_tiers,
    quickstart,
    spent,
)
from key_tables import (
    DISTRIBUTIONS,
    PREDICTIONS,
    PROCESSES,
    THINK_TIMES,
    flags_table,
    keys_table,
    kinds_table,
    links_table,
)
from simulated_tables import caching, mixtures, slots

from tokensim.scenario import lengths, sessions, traits
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
from tokensim.server_flags import DIALECTS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PART = re.compile(r"(<!-- generated: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

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
