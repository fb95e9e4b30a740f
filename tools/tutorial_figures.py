"""The figures of ``docs/tutorial.md``, made by the tutorial's own files and commands.

    python tools/tutorial_figures.py

Every ``file=`` block is written to a folder, the commands that the figures need are run there, and what
``tokensim plot`` draws is made small: the thousand dots of a figure become one path.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
OUT = ROOT / "docs" / "figures"
FIGURES = {
    "runs/growth/figures/over-tpot-p99.svg": "tutorial-growth.svg",
    "three-h100-fail/figures/tpot-over-time.svg": "tutorial-failure.svg",
}
"""What the commands write → the figure on the page."""
NEEDED = ("sweep growth", "-o three-h100-fail", "plot ")

FILE = re.compile(r"^```yaml file=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```bash[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOT = re.compile(
    r'<path transform="translate\(([-\d.]+),([-\d.]+)\)" d="M([\d.]+),0A[^"]*"'
    r' fill="([^"]+)" stroke-width="2" opacity="([\d.]+)"/>'
)
LONG = re.compile(r"-?\d+\.\d{3,}")


def main() -> None:
    """Write the figures into ``docs/figures``."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in FILE.findall(text):
            (folder / file).write_text(content, encoding="utf-8")
        for block in COMMANDS.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                if any(word in line for word in NEEDED):
                    run(shlex.split(line)[1:], folder)
        OUT.mkdir(exist_ok=True)
        for made, figure in FIGURES.items():
            (OUT / figure).write_text(compact((folder / made).read_text(encoding="utf-8")), encoding="utf-8")


def run(arguments: list[str], folder: Path) -> None:
    """Run ``tokensim`` with ``arguments`` in ``folder``."""
    command = [sys.executable, "-m", "tokensim", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def compact(svg: str) -> str:
    """``svg`` with each row of equal dots as one path of round caps, and numbers to a tenth of a pixel."""

    def merged(row: re.Match[str]) -> str:
        dots = DOT.findall(row[0])
        radius, fill, opacity = dots[0][2:]
        path = "".join(f"M{float(x):.1f},{float(y):.1f}h0" for x, y, *_ in dots)
        return (
            f'<path d="{path}" fill="none" stroke="{fill}" stroke-linecap="round"'
            f' stroke-width="{2 * float(radius):.1f}" opacity="{opacity}"/>'
        )

    svg = re.sub(rf"(?:{DOT.pattern}){{9,}}", merged, svg)
    return LONG.sub(lambda number: f"{float(number[0]):.1f}", svg)


if __name__ == "__main__":
    main()
