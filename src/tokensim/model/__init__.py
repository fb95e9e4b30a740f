"""The LLM: from a catalog id or a ``config.json`` to parameters, bytes, and a step's operators on a rank."""

from tokensim.model.base import MLA, ModelSpec, MoE
from tokensim.model.config import from_config
from tokensim.model.load import catalog_names, load_model
from tokensim.model.shards import operators

__all__ = ["MLA", "MoE", "ModelSpec", "catalog_names", "from_config", "load_model", "operators"]
