"""Tables of figures that simulations made for them give: one setting of an example against another."""

from __future__ import annotations

from typing import Any

from example_outputs import ROOT

import tokensim
from tokensim.scenario.schema import Scenario


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
