"""The search of the documentation's site in a real browser: served, and opened from a folder of files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

FOUND = """
const done = arguments[arguments.length - 1], until = Date.now() + 20000;
const box = document.querySelector(".md-search__input");
box.focus();
box.value = arguments[0];
box.dispatchEvent(new InputEvent("input", {bubbles: true}));
(function look() {
  const links = [...document.querySelectorAll(".md-search-result__link")].map(a => a.href);
  if (links.length || Date.now() > until) done(links); else setTimeout(look, 50);
})();
"""
ASKED = "return performance.getEntriesByType('resource').map(e => e.name)"


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The address of the site on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["index.html", "studies/index.html"])
@pytest.mark.parametrize("how", ["served", "folder"])
def test_search_finds_a_page(
    browser: Any, site: Path, request: pytest.FixtureRequest, how: str, page: str
) -> None:
    base = request.getfixturevalue("served") if how == "served" else site.as_uri()
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(f"{base}/{page}")
    found = browser.execute_async_script(FOUND, "preemption")
    assert found and all(link.startswith(f"{base}/") for link in found)
    best = site / found[0].removeprefix(f"{base}/").partition("?")[0].partition("#")[0]
    assert "preemption" in best.read_text(encoding="utf-8").lower()
    elsewhere = [name for name in browser.execute_script(ASKED) if not name.startswith((base, "data:"))]
    assert elsewhere == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    browser.get("about:blank")
