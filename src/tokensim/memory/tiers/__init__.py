"""Memory behind the device's: tiers that hold KV by content, their eviction, and where a prefix lies."""

from tokensim.memory.tiers.eviction import Eviction
from tokensim.memory.tiers.find import Part, find
from tokensim.memory.tiers.leaving import Linked, merged
from tokensim.memory.tiers.tier import Flight, Tier

__all__ = ["Eviction", "Flight", "Linked", "Part", "Tier", "find", "merged"]
