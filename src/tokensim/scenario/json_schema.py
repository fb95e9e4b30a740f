"""The JSON Schema of a scenario, so that editors complete and check the file."""

from __future__ import annotations

import json
from typing import Any

from tokensim.scenario.schema import Scenario

_SHORT_FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("Cluster", "router"): {"type": "string", "minLength": 1},
    ("WorkloadSpec", "arrivals"): {"type": "string", "minLength": 1},
    ("WorkloadSpec", "input_tokens"): {"type": "integer", "minimum": 1},
    ("WorkloadSpec", "output_tokens"): {"type": "integer", "minimum": 1},
    ("Performance", "front_end"): {"enum": [True, False, "on", "off"]},
}
"""What may stand instead of a section: a policy's or process's name, a fixed length, on or off."""


def schema_json() -> str:
    """The JSON Schema (draft 2020-12) of a scenario, short forms included."""
    schema = Scenario.model_json_schema()
    sections = schema["$defs"]
    for (section, key), short in _SHORT_FORMS.items():
        field = sections[section]["properties"][key]
        kept = {name: field.pop(name) for name in ("description", "title", "default") if name in field}
        whole = field.pop("anyOf", None) or [dict(field)]
        sections[section]["properties"][key] = {"anyOf": [short, *whole], **kept}
    overrides = sections["Pool"]["properties"]["engine"]
    sections["Pool"]["properties"]["engine"] = {
        "$ref": "#/$defs/Engine",
        "description": overrides["description"],
    }
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False)
