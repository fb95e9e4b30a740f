"""A sheet of SVG: boxes, lines and words whose colours follow the reader's light or dark.

Figures are 520 wide and their words 12 to 14 high, so that they can be read on a phone, where a page is 360
wide. Colours are those of the reports (``tokensim.report.figures.theme``).
"""

from __future__ import annotations

from html import escape

from tokensim.report.figures.theme import DARK, FONT, LIGHT

WIDTH = 520.0
PREFILL, QUEUE, DECODE, TRANSFER = range(4)
"""Colours by meaning, as in the Gantt chart of a report."""

_SHADES = {
    "ink": ("#1B2430", "#E8ECF1"),
    "muted": ("#566170", "#A6B0BD"),
    "grid": ("#DDE2E8", "#323B48"),
    "ground": ("#FFFFFF", "#141A22"),
    "panel": ("#F4F6F8", "#1D2530"),
}
_ON_COLOUR = ("#FFFFFF", "#10151C")


def colour(number: int) -> str:
    """The class of the colour ``number``."""
    return f"c{number % len(LIGHT)}"


class Canvas:
    """What is drawn so far; ``svg`` is the file. ``title`` and ``story`` are read out by a screen"
    " reader."""

    def __init__(self, height: float, title: str, story: str) -> None:
        self.height = height
        self._head = f"<title>{escape(title)}</title><desc>{escape(story)}</desc>"
        self._parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        shade: str,
        *,
        round_: float = 0,
        fade: float = 1,
    ) -> None:
        """A filled rectangle; ``fade`` is its opacity."""
        more = f' opacity="{_n(fade)}"' if fade < 1 else ""
        self._parts.append(f'<rect class="{shade}" {_place(x, y, width, height, round_)}{more}/>')

    def frame(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        shade: str,
        *,
        round_: float = 0,
        line: float = 1,
    ) -> None:
        """The outline of a rectangle, inside of its edges."""
        place = _place(x + line / 2, y + line / 2, width - line, height - line, round_)
        self._parts.append(f'<rect class="l-{shade}" stroke-width="{_n(line)}" {place}/>')

    def line(
        self,
        points: list[tuple[float, float]],
        shade: str,
        *,
        line: float = 1,
        dash: str = "",
        head: bool = False,
    ) -> None:
        """A polyline; ``head``: with an arrow at its end."""
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        more = (f' stroke-dasharray="{dash}"' if dash else "") + (' marker-end="url(#head)"' if head else "")
        self._parts.append(f'<path class="l-{shade}" stroke-width="{_n(line)}" d="{path}"{more}/>')

    def down(self, x: float, y: float, shade: str, size: float = 5) -> None:
        """A triangle that stands on (``x``, ``y``)."""
        path = f"M{_n(x)} {_n(y)}l{_n(-size)} {_n(-1.6 * size)}h{_n(2 * size)}z"
        self._parts.append(f'<path class="{shade}" d="{path}"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        shade: str = "ink",
        *,
        size: float = 13,
        at: str = "start",
        bold: bool = False,
    ) -> None:
        """``words`` with their base line at ``y``; ``at``: start, middle or end lies at ``x``."""
        more = ("" if at == "start" else f' text-anchor="{at}"') + (' font-weight="600"' if bold else "")
        place = f'x="{_n(x)}" y="{_n(y)}"'
        self._parts.append(
            f'<text class="{shade}" font-size="{_n(size)}" {place}{more}>{escape(words)}</text>'
        )

    def legend(self, x: float, y: float, entries: list[tuple[str, str]]) -> None:
        """Small squares with words, in a row from ``x`` on."""
        for shade, words in entries:
            self.box(x, y - 9.5, 10, 10, shade, round_=2)
            self.text(x + 15, y, words, "muted", size=12)
            x += 15 + 6.4 * len(words) + 16

    def axis(
        self, y: float, ticks: list[tuple[float, str]], unit: str, *, left: float, right: float, top: float
    ) -> None:
        """An axis at ``y``: faint lines up to ``top`` at ``ticks`` (place, words), its unit behind."""
        for x, words in ticks:
            self._parts.insert(0, f'<path class="l-grid" d="M{_n(x)} {_n(top)}V{_n(y)}"/>')
            self.text(x, y + 15, words, "muted", size=12, at="middle")
        self.line([(left, y), (right, y)], "muted")
        self.text(right, y + 15, unit, "muted", size=12, at="end")

    def svg(self) -> str:
        """The file."""
        size = f'width="{_n(1.3 * WIDTH)}" height="{_n(1.3 * self.height)}"'
        view = f'viewBox="0 0 {_n(WIDTH)} {_n(self.height)}"'
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
            ' orient="auto"><path class="muted" d="M0 0.5L8 4L0 7.5z"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {view}>',
                self._head,
                f"<style>{_style()}</style>",
                f"<defs>{head}</defs>",
                f'<rect class="ground" width="{_n(WIDTH)}" height="{_n(self.height)}" rx="8"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def _place(x: float, y: float, width: float, height: float, round_: float) -> str:
    """Where a rectangle lies, and the radius of its corners."""
    corners = f' rx="{_n(round_)}"' if round_ else ""
    return f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{corners}'


def _style() -> str:
    light, dark = (_rules(index) for index in (0, 1))
    return (
        f"text{{font-family:{FONT}}}"
        f"[class^=l-]{{fill:none}}{light}@media (prefers-color-scheme:dark){{{dark}}}"
    )


def _rules(index: int) -> str:
    """The colours of all classes, light (0) or dark (1)."""
    shades = {name: pair[index] for name, pair in _SHADES.items()}
    shades |= {colour(number): value for number, value in enumerate((LIGHT, DARK)[index])}
    shades["on"] = _ON_COLOUR[index]
    return "".join(f".{name}{{fill:{value}}}.l-{name}{{stroke:{value}}}" for name, value in shades.items())


def _n(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0").replace("-0.0", "0") if value else "0"
