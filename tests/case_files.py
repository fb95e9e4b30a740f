"""A case's folder, written by a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


def scenario_tree(**engine: Any) -> dict[str, Any]:
    """A small machine: one H100 by the roofline."""
    return {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "engine": {"max_num_seqs": 64, "max_num_batched_tokens": 2048, **engine},
        "performance": {"operators": "roofline"},
    }


def write_case(folder: Path, rows: Sequence[dict[str, Any]], **facts: Any) -> Path:
    """A case's folder with these requests and facts."""
    folder.mkdir(parents=True, exist_ok=True)
    case = {"name": folder.name, "anchor": "client-send", "scenario": scenario_tree(), **facts}
    (folder / "case.yaml").write_text(yaml.safe_dump(case, sort_keys=False), encoding="utf-8")
    text = "".join(json.dumps(request) + "\n" for request in rows)
    (folder / "requests.jsonl").write_text(text, encoding="utf-8")
    return folder
