"""KV memory: the paged pool with its prefix cache, by extents; and how large it is."""

from tokensim.memory.base import KvPool, Table
from tokensim.memory.blocks import BlockByBlockPool
from tokensim.memory.capacity import Capacity, derive_capacity
from tokensim.memory.pool import BlockPool
from tokensim.memory.prefix import Content, Extent, Node

__all__ = [
    "BlockByBlockPool",
    "BlockPool",
    "Capacity",
    "Content",
    "Extent",
    "KvPool",
    "Node",
    "Table",
    "derive_capacity",
]
