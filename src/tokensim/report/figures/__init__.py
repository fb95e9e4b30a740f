"""Figures: each a function from tidy tables to a Vega-Lite specification with title, units and description.

The same ``Figure`` is drawn in a page by the browser (``tokensim.report.page``) and written to a file
(``tokensim.report.export``).
"""

from tokensim.report.figures.base import Figure

__all__ = ["Figure"]
