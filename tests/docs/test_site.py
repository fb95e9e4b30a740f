"""The documentation builds as a site, strictly, and the site needs no network to be read."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from example_outputs import ROOT
from generated import PAGES

import tokensim

LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)\"|<link\b[^>]*\bhref=\"([^\"]+)\"")
"""What a browser fetches by itself."""
ANCHOR = re.compile(r'id="(tokensim[\w.]*)"')
IMPORTED = re.compile(r"^from (tokensim[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def test_every_page_fetches_only_what_lies_beside_it(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        for match in LOADED.finditer(page.read_text(encoding="utf-8")):
            target = match[1] or match[2]
            assert not target.startswith(("http:", "https:", "//")), f"{page.name} fetches {target}"


def test_every_block_of_code_is_shown_as_one(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert "```" not in page.read_text(encoding="utf-8"), page.name


def test_a_block_that_is_a_file_has_its_name_as_title(site: Path) -> None:
    assert '<span class="filename">service.yaml</span>' in (site / "tutorial.html").read_text(
        encoding="utf-8"
    )


def test_links_out_of_the_pages_name_the_file_instead(site: Path) -> None:
    text = (site / "extending.html").read_text(encoding="utf-8")
    assert "examples/plugins/shortest_first.py" in text
    assert 'href="../examples' not in text


def test_the_reference_has_every_name_that_is_public_or_imported_on_a_page(site: Path) -> None:
    anchors = {
        anchor
        for page in (site / "reference").glob("*.html")
        for anchor in ANCHOR.findall(page.read_text(encoding="utf-8"))
    }
    wanted = {("tokensim", name) for name in tokensim.__all__ if name != "__version__"}
    for page in PAGES:
        for module, names in IMPORTED.findall(page.read_text(encoding="utf-8")):
            wanted |= {(module, name.strip()) for name in names.split(",")}
    assert len(wanted) > 40
    missing = []
    for module, name in sorted(wanted):
        found = getattr(importlib.import_module(module), name)
        home = getattr(found, "__module__", None) or type(found).__module__
        if not {f"{module}.{name}", f"{home}.{name}"} & anchors and not isinstance(found, TypeVar):
            missing.append(f"{module}.{name}")
    assert not missing


def test_every_page_of_docs_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    def pages(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [page for item in (part.values() if isinstance(part, dict) else part) for page in pages(item)]

    named = pages(nav)
    assert sorted(named) == sorted(str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md"))
