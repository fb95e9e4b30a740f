"""YAML files of the package, or that a tool wrote: read by libyaml, ten times as fast as PyYAML by itself.

What people write is read by ``scenario.yaml_text``, which knows the line of every value.
"""

from __future__ import annotations

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """The content of ``text``; raises ``yaml.YAMLError``."""
    return yaml.load(text, Loader=_LOADER)
