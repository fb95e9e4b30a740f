"""KV memory: the paged pool with its prefix cache, by extents; and how large it is."""

from tokensim.memory.capacity import Capacity, derive_capacity
from tokensim.memory.pool import BlockPool, Table
from tokensim.memory.prefix import Content, Extent, Node

__all__ = ["BlockPool", "Capacity", "Content", "Extent", "Node", "Table", "derive_capacity"]
