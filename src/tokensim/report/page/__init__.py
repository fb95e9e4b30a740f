"""Pages of figures: one HTML file that needs nothing else, and no network."""

from tokensim.report.page.filters import Filter, Filters
from tokensim.report.page.page import Fold, Listing, Page, Section, Tile, render_page

__all__ = ["Filter", "Filters", "Fold", "Listing", "Page", "Section", "Tile", "render_page"]
