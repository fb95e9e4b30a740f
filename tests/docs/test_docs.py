"""The documentation tells the truth: generated parts are current, links lead somewhere, every block works.

The blocks of a page share a folder in which ``examples/`` is there, in the order of the page. A block with
``file=NAME`` in its first line is written to that file; a ``bash`` block with ``status=N`` must end so, and
the simulations of one with ``set=PATH=VALUE`` get that on top: fewer requests, for example.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_outputs import CLI, ENVIRONMENT, ROOT
from generated import PAGES, PART, PARTS, current

from tokensim.explore.study import Study
from tokensim.scenario import Scenario, from_mapping

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PATH = re.compile(r"`((?:src|tests|examples|studies|docs|benchmarks)/[\w./-]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NOT_RUN = (
    "pip ",
    "pytest",
    "pre-commit ",
    "python3 -m venv ",
    ".ci/run",
    "python tests/",
    "python tools/draw_diagrams.py",
    "python benchmarks/",
    "python examples/",
    "python studies/",
)
"""What sets up an environment, or is another check's own command."""
SPEED = re.compile(r"^simulated in .*$", re.MULTILINE)
"""The one line of a report that depends on the machine."""
INERT = {"text", "mermaid", "toml", "json", "csv"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words after it, its text, and where it stands."""

    language: str
    options: dict[str, str]
    text: str
    where: str


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of ``page``."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        options = dict(word.split("=", 1) for word in match[2].split())
        line = text.count("\n", 0, match.start()) + 1
        yield Block(match[1], options, match[3], f"{page.relative_to(ROOT)}:{line}")


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    unknown = {match[2] for match in PART.finditer(text)} - PARTS.keys()
    assert not unknown
    fresh = SPEED.sub("", current(page))
    assert SPEED.sub("", text) == fresh, "run: python tests/docs/generated.py"


def test_every_generated_part_stands_on_a_page() -> None:
    shown = {match[2] for page in PAGES for match in PART.finditer(page.read_text(encoding="utf-8"))}
    assert shown == PARTS.keys()


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {anchor_of(title) for title in titles}, f"{page.name}: {target}"


def anchor_of(title: str) -> str:
    """The anchor that a markdown title gets."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_paths_in_the_source_exist(page: Path) -> None:
    for path in PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_walk_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "structures.md").read_text(encoding="utf-8")
    folders = [folder for folder in (ROOT / "src" / "tokensim").rglob("*") if folder.is_dir()]
    for name in set(re.findall(r"`([\w/]+\.py)`", page)):
        assert any((folder / name).is_file() for folder in [*folders, ROOT / "src" / "tokensim"]), name


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_block_works(page: Path, tmp_path: Path) -> None:
    for name in ("examples", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in blocks(page):
        if "file" in block.options:
            file = tmp_path / block.options["file"]
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        if block.language == "bash":
            run_commands(block, tmp_path)
        elif block.language == "python":
            run([sys.executable, "-c", block.text], block, tmp_path)
        elif block.language == "yaml":
            check_yaml(block, tmp_path)
        else:
            assert block.language in INERT, f"{block.where}: a block of {block.language!r}"


def run_commands(block: Block, folder: Path) -> None:
    """Run the ``tokensim`` commands of a block; anything else must be known not to be run."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.split(" && "):
            if command.startswith("tokensim ") and "/studies/" in block.where:
                check_study(shlex.split(command, comments=True)[1:], folder)
            elif command.startswith("tokensim "):
                run([*CLI, *shlex.split(command, comments=True)[1:], *reduced(command, block)], block, folder)
            else:
                assert command.startswith((*NOT_RUN, "source ")), f"{block.where}: {command!r} is not checked"


def reduced(command: str, block: Block) -> list[str]:
    """What makes ``command`` quick here: the block's ``set`` on top where it simulates, and no processes of
    its own where it says nothing of them (the results are the same; other tests see to that)."""
    name = command.split()[1]
    explores = name in ("sweep", "capacity", "optimize", "sensitivity", "compare")
    serial = ["--executor", "serial"] if explores and not re.search(r"--(executor|jobs)|-j ", command) else []
    simulates = "set" in block.options and (name == "run" or (explores and name != "compare"))
    return [*serial, *(["--set", block.options["set"]] if simulates else [])]


def check_study(arguments: list[str], folder: Path) -> None:
    """The study of a command that runs for minutes: it can be read, and the command is one. ``tests/studies``
    runs each at a reduced size."""
    command, study = arguments[0], next(word for word in arguments if word.endswith(".yaml"))
    assert command in ("sweep", "capacity", "optimize")
    assert len(Study.from_yaml(folder / study)) > 0


def run(command: list[str], block: Block, folder: Path) -> None:
    """Run ``command`` in ``folder``; it must end as the block says."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    story = f"{block.where}: {command[-6:]}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    assert done.returncode == int(block.options.get("status", "0")), story


def check_yaml(block: Block, folder: Path) -> None:
    """A study (it has ``parameters``; its files are in ``folder``), a whole scenario, a part of one put on
    top of the quickstart, or a device (it has a ``base``)."""
    data: dict[str, Any] = yaml.safe_load(block.text)
    if "parameters" in data:
        Study.from_mapping(data, folder, block.where)
        return
    if "base" in data:
        data = {"cluster": {"pools": [{"hardware": data}]}}
    quickstart = (ROOT / "examples" / "quickstart.yaml").read_text(encoding="utf-8")
    if not {"model", "cluster", "workload"} <= data.keys():
        data = {**yaml.safe_load(quickstart), **data}
    assert isinstance(from_mapping(data, block.where), Scenario)


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.stem)
def test_examples_are_valid_scenarios(file: Path) -> None:
    assert Scenario.from_yaml(file).name
