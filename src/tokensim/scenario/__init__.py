"""What the user asks for: the scenario's schema, its units, its files and its error messages."""

from tokensim.scenario.engine import Engine, resolved_engine
from tokensim.scenario.json_schema import schema_json
from tokensim.scenario.loading import dump_scenario, from_mapping, load_scenario
from tokensim.scenario.overrides import apply_overrides
from tokensim.scenario.performance import Performance
from tokensim.scenario.schema import Parallel, Pool, Scenario, Slo

__all__ = [
    "Engine",
    "Parallel",
    "Performance",
    "Pool",
    "Scenario",
    "Slo",
    "apply_overrides",
    "dump_scenario",
    "from_mapping",
    "load_scenario",
    "resolved_engine",
    "schema_json",
]
