"""The JavaScript that draws the figures of a page: Vega, Vega-Lite and Vega-Embed in one file.

The package ``vl-convert-python`` carries them and puts them together without a network, which takes seconds;
so the result is kept in the user's cache folder, by version. Where that cannot be written it is made anew
each time.
"""

from __future__ import annotations

import contextlib
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tokensim.errors import SimulationError
from tokensim.report.atomic import write_bytes
from tokensim.report.figures.base import VEGA_LITE

EXPORTS = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"
"""What of the bundle the script of a page may use."""


@cache
def javascript() -> str:
    """The bundle, as it can stand inside a ``<script>``; defines ``vegaEmbed``, ``vega``, ``vegaLite``."""
    kept = _cache_file()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    text = vl_convert.javascript_bundle(EXPORTS, vl_version=VEGA_LITE)
    text = re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE)
    with contextlib.suppress(OSError, SimulationError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, text.encode())
    return text


def _cache_file() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tokensim") / f"vega-{VEGA_LITE}-{version('vl-convert-python')}.js"
