"""Pages of figures: one HTML file that needs nothing else, and no network."""

from tokensim.report.page.page import Fold, Listing, Page, Section, Tile, render_page

__all__ = ["Fold", "Listing", "Page", "Section", "Tile", "render_page"]
