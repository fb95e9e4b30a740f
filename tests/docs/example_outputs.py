"""Outputs of commands, examples and blocks of Python, as the pages show them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from printed import printed

import tokensim

ROOT = Path(__file__).resolve().parent.parent.parent
CLI = [sys.executable, "-c", "from tokensim.cli import main; main()"]
SOURCE = Path(tokensim.__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUTF8": "1", "COLUMNS": "80"}
"""Commands run what is under test, wherever they run, and print as a terminal of 80 columns would show."""


def quickstart() -> str:
    """What the README's first command prints."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        command = [*CLI, "run", "examples/quickstart.yaml"]
        return fenced(output_of(command, folder))


def explained() -> str:
    """What the first command of ``docs/operator-costs.md`` prints."""
    command = [*CLI, "explain", "examples/quickstart.yaml", "--step", "decode=64@1024"]
    return fenced(output_of([*command, "--operators", "roofline"], ROOT))


def local_schedulers() -> str:
    """What the comparison of ``docs/local-schedulers.md`` prints."""
    return fenced(output_of([sys.executable, "examples/compare_schedulers.py"], ROOT))


def measured() -> str | None:
    """The errors against measured runs; None where these, or the measured tables, are not there."""
    here = any(ROOT.glob("../shared/groundtruth/*/case.yaml"))
    if not here or importlib.util.find_spec("aiconfigurator_core") is None:
        return None
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "accuracy.py"),
        "--sources",
        "tables",
        "--fit-on",
        "none",
    ]
    return output_of(command, ROOT).partition("\n\n")[2].strip() + "\n"


def memory_tiers() -> str:
    """What ``examples/memory_tiers.py`` prints."""
    return fenced(output_of([sys.executable, str(ROOT / "examples" / "memory_tiers.py")], ROOT))


def spent() -> str:
    """The lines on money and energy that ``docs/energy-and-cost.md`` shows."""
    command = [*CLI, "run", "examples/two_generations.yaml", "--output"]
    with tempfile.TemporaryDirectory() as folder:
        lines = output_of([*command, folder], ROOT).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("cost"))
    last = next(i for i, line in enumerate(lines) if line.startswith("over time"))
    return fenced("\n".join(line for line in lines[first:last] if not line.startswith("simulated in")))


def compare_links() -> str:
    """What ``examples/compare_links.py`` prints: a table."""
    return output_of([sys.executable, str(ROOT / "examples" / "compare_links.py")], ROOT)


def lines_of_run(name: str, *labels: str) -> str:
    """Lines of the report on an example: those that begin with one of ``labels``."""
    report = output_of([*CLI, "run", str(ROOT / "examples" / f"{name}.yaml"), "--no-output"], ROOT)
    return fenced("\n".join(line for line in report.splitlines() if line.startswith(labels)))


def in_concepts(page: str, number: int) -> str:
    """What the Python block ``number`` of a page of concepts prints."""
    return fenced(printed(ROOT, Path("docs") / "concepts" / f"{page}.md", number, ENVIRONMENT))


def output_of(command: list[str], folder: str | Path) -> str:
    """What ``command`` prints in ``folder``."""
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return done.stdout


def fenced(text: str) -> str:
    """``text`` as a block of plain text."""
    return "```text\n" + "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n```\n"
