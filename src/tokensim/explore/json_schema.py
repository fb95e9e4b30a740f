"""The JSON Schema of a study file, so that editors complete and check it."""

from __future__ import annotations

import json
from typing import Any

from tokensim.explore.figures import ALIASES
from tokensim.explore.study import StudyFile

_RANGE: dict[str, Any] = {
    "type": "object",
    "description": "Evenly spaced values; without steps, any value in between (method random, optimize).",
    "properties": {
        "from": {"type": "number"},
        "to": {"type": "number"},
        "steps": {"type": "integer", "minimum": 2},
        "scale": {"enum": ["linear", "log"]},
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}
_VALUES: dict[str, Any] = {"type": "array", "minItems": 1, "description": "The values of this key."}
_SETTINGS: dict[str, Any] = {
    "type": "object",
    "description": "Names of your own, each with values by path.",
    "minProperties": 1,
    "additionalProperties": {"type": "object"},
}
_FIGURE: dict[str, Any] = {"type": "string", "description": f"A figure of a run, or {', '.join(ALIASES)}."}
_LIMITS: dict[str, Any] = {
    "type": "object",
    "properties": {side: {"type": ["number", "string"]} for side in ("max", "min")},
    "minProperties": 1,
    "additionalProperties": False,
}


def study_schema_json() -> str:
    """The JSON Schema (draft 2020-12) of a study file."""
    schema = StudyFile.model_json_schema()
    keys = schema["properties"]
    keys["parameters"]["additionalProperties"] = {"anyOf": [_VALUES, _RANGE, _SETTINGS]}
    keys["goals"]["items"] = {
        "type": "object",
        "properties": {"minimize": _FIGURE, "maximize": _FIGURE},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    keys["subject_to"]["properties"] = {"slo": {"type": "boolean"}}
    keys["subject_to"]["additionalProperties"] = _LIMITS
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False)
