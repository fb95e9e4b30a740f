"""How figures look, light and dark: colours that the colour-blind can tell apart, quiet axes, one font.

Okabe and Ito, "Color Universal Design" (2008), jfly.uni-koeln.de/color: blue, vermillion, green, purple,
orange, sky blue; on a dark ground the same hues, lighter. The order is the same in both, and so is the
meaning of a colour in every figure: ``PHASES`` of a request and ``BOUNDS`` of an operator are in the order of
the colours.
"""

from __future__ import annotations

from typing import Any

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#B5679B", "#E69F00", "#56B4E9", "#5B6573", "#8C6D1F")
DARK = ("#56B4E9", "#FF8A4C", "#2CC79B", "#E39CC6", "#F0C94A", "#8FA8FF", "#AAB4C2", "#C9B47A")

BOUNDS = ("compute", "memory", "network", "host")
"""What limits an operator, in the order of the colours."""

WORTH = BETTER, WORSE, DIFFERS, NOISE = ("better", "worse", "different", "not told apart")
"""What a difference is worth, in the order of the named range ``worth``."""

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif'


def config(dark: bool, *, whole: bool = False) -> dict[str, Any]:
    """The Vega-Lite configuration; ``whole``: with a background (a page has its own)."""
    text, muted, grid = ("#E8ECF1", "#A6B0BD", "#2B333F") if dark else ("#1B2430", "#566170", "#E4E8ED")
    ground = "#141A22" if dark else "#FFFFFF"
    colours = list(DARK if dark else LIGHT)
    small = {"labelColor": muted, "titleColor": muted, "labelFontSize": 11, "titleFontSize": 12}
    return {
        "background": ground if whole else "transparent",
        "font": FONT,
        "title": {"color": text, "fontSize": 15, "fontWeight": 600, "anchor": "start", "offset": 12},
        "view": {"stroke": None},
        "axis": {
            **small,
            "titleFontWeight": "normal",
            "gridColor": grid,
            "domainColor": grid,
            "tickColor": grid,
            "labelPadding": 6,
            "titlePadding": 8,
            "labelOverlap": "greedy",
            "labelFlush": True,
            "tickCount": 6,
        },
        "axisX": {"grid": False, "domainColor": muted, "tickColor": muted},
        "axisY": {"domain": False, "ticks": False, "labelFlush": False},
        "header": {"labelColor": text, "titleColor": muted},
        "legend": {
            **small,
            "labelColor": text,
            "orient": "top",
            "direction": "horizontal",
            "titleFontWeight": "normal",
            "symbolType": "circle",
            "symbolSize": 70,
            "columnPadding": 14,
            "labelLimit": 150,
            "offset": 6,
        },
        "range": {
            "category": colours,
            "ramp": {"scheme": "viridis"},
            "heatmap": {"scheme": "viridis"},
            "diverging": {"scheme": "blueorange"},
            "worth": [colours[0], colours[1], colours[3], muted],
        },
        "line": {"strokeWidth": 1.8, "strokeJoin": "round", "color": colours[0]},
        "area": {"color": colours[0]},
        "bar": {"color": colours[0]},
        "point": {"color": colours[0], "filled": True},
        "circle": {"color": colours[0]},
        "rule": {"color": muted},
        "text": {"color": text, "fontSize": 11},
        "style": {
            "slo": {"color": colours[1], "strokeDash": [5, 3], "strokeWidth": 1.5},
            "slo-label": {"color": colours[1], "fontSize": 11, "fontWeight": 600},
            "median": {"color": colours[1], "strokeWidth": 2.5},
            "mark-point": {"color": text, "stroke": ground, "strokeWidth": 1.5},
            "mark-label": {"color": text, "fontSize": 11},
            "halo": {"color": ground, "stroke": ground, "strokeWidth": 4, "strokeJoin": "round"},
            "roof": {"color": muted, "strokeWidth": 1.5},
            "roof-label": {"color": muted, "fontSize": 11},
            "shade": {"color": muted},
            "whisker": {"color": text, "strokeWidth": 1.5},
            "value-label": {"color": muted, "fontSize": 11},
        },
    }
