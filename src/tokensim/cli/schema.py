"""``tokensim schema``: the JSON Schema of a scenario, or of a study."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    study: Annotated[bool, typer.Option("--study", help="Of a study file, not of a scenario.")] = False,
) -> None:
    """Print the JSON Schema of a scenario, for editors that complete and check the file."""
    if study:
        from tokensim.explore.json_schema import study_schema_json

        typer.echo(study_schema_json())
        return
    from tokensim.scenario.json_schema import schema_json

    typer.echo(schema_json())
