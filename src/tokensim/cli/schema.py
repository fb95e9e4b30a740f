"""``tokensim schema``: the JSON Schema of a scenario."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON Schema of a scenario, for editors that complete and check the file."""
    from tokensim.scenario.json_schema import schema_json

    typer.echo(schema_json())
