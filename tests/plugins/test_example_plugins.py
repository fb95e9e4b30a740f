"""Every example of a plug-in runs by the command that it gives, and is as short as promised."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "plugins").glob("*.py"))
MOST_LINES = 25


def command_of(file: Path) -> list[str]:
    """The words of the command in the docstring of ``file``, without ``tokensim``."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    match = re.search(r"^ *tokensim (run .*?)\n\n", text, re.DOTALL | re.MULTILINE)
    assert match, f"{file.name} gives no command"
    return shlex.split(match[1].replace("\\\n", " "))


def lines_of_code(file: Path) -> int:
    """Lines that are neither empty, nor comments, docstrings or imports."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and n not in skipped for n, line in lines
    )


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_short(file: Path) -> None:
    assert lines_of_code(file) <= MOST_LINES


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs_by_its_own_command(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from tokensim.cli.app import app

    monkeypatch.chdir(ROOT)
    words = command_of(file)
    assert f"examples/plugins/{file.name}" in words
    done = CliRunner().invoke(app, [*words, "--num-requests", "60", "--no-output"])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
