"""KV memory: the paged pool with its prefix cache, by extents; and how large it is."""

from tokensim.memory.base import KvPool, Pool, Table
from tokensim.memory.blocks import BlockByBlockPool
from tokensim.memory.capacity import Capacity, derive_capacity
from tokensim.memory.pool import BlockPool
from tokensim.memory.prefix import Content, Extent, Node
from tokensim.memory.radix import RadixPool

__all__ = [
    "BlockByBlockPool",
    "BlockPool",
    "Capacity",
    "Content",
    "Extent",
    "KvPool",
    "Node",
    "Pool",
    "RadixPool",
    "Table",
    "derive_capacity",
]
