"""KV memory: the paged pool with its prefix cache, by extents."""

from tokensim.memory.pool import BlockPool, Table
from tokensim.memory.prefix import Content, Extent, Node

__all__ = ["BlockPool", "Content", "Extent", "Node", "Table"]
