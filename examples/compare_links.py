"""The same prefill and decode instances over three links, by four ways for the KV to leave.

python examples/compare_links.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokensim import Scenario, simulate

HERE = Path(__file__).parent
LINKS: dict[str, dict[str, Any]] = {
    "NVLink, 450 GB/s": {"placement": "packed"},
    "InfiniBand, 400 Gb/s": {"placement": "by-pool", "inter_node": "infiniband-ndr-400"},
    "Ethernet, 25 Gb/s": {"placement": "by-pool", "inter_node": "ethernet-25"},
}


def milliseconds(seconds: float | None) -> str:
    """As people read it; a dash where there is nothing."""
    return "-" if seconds is None else f"{1e3 * seconds:,.1f} ms"


def main() -> None:
    """Print a table, one row a run."""
    scenario = Scenario.from_yaml(HERE / "disaggregated.yaml")
    columns = (
        "link | transfer | KV leaves | TTFT mean | TTFT p99 | TPOT mean | E2E mean | a transfer | link used"
    )
    print(f"| {columns} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for link, network in LINKS.items():
        for way in ("pull", "push"):
            for layerwise in (False, True):
                given = scenario.model_dump()
                given["cluster"]["network"] = network
                given["cluster"]["disaggregation"] = {"kv_transfer": way, "layerwise": layerwise}
                summary = simulate(Scenario.model_validate(given)).summary
                latency = summary.latency
                moved = summary.transfers[0].seconds.mean if summary.transfers else None
                used = 100 * (summary.links[0].used_share or 0.0) if summary.links else 0.0
                cells = [
                    link,
                    way,
                    "by layer" if layerwise else "at the end",
                    milliseconds(latency.ttft_s.mean),
                    milliseconds(latency.ttft_s.p99),
                    milliseconds(latency.tpot_s.mean),
                    milliseconds(latency.e2e_s.mean),
                    milliseconds(moved),
                    f"{used:.1f} %",
                ]
                print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
