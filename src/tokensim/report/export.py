"""Figures as files: SVG, PNG, PDF, or the Vega-Lite specification itself."""

from __future__ import annotations

import json
from pathlib import Path

from tokensim.report.atomic import write_bytes
from tokensim.report.figures.base import VEGA_LITE, Figure

FORMATS = ("svg", "png", "pdf", "json")
"""What a figure can be written as; ``json`` is Vega-Lite with its data."""

PNG_SCALE = 2
"""Pixels of a PNG for each pixel of the figure."""


def rendered(figure: Figure, format_: str, *, dark: bool = False) -> bytes:
    """The bytes of ``figure`` in one of ``FORMATS``."""
    spec = figure.complete(dark=dark)
    if format_ == "json":
        return (json.dumps(spec, ensure_ascii=False, allow_nan=False) + "\n").encode()
    import vl_convert

    if format_ == "svg":
        return vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE).encode()
    if format_ == "png":
        return vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=PNG_SCALE)
    return vl_convert.vegalite_to_pdf(spec, vl_version=VEGA_LITE)


def write_figure(figure: Figure, path: Path, *, dark: bool = False) -> None:
    """Write ``figure`` to ``path``, whose suffix is one of ``FORMATS``; raises ``SimulationError`` where it
    cannot be written."""
    write_bytes(path, rendered(figure, path.suffix.removeprefix("."), dark=dark))
