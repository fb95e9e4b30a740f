"""What all tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LONG = {
    "test_docs.py",
    "test_exact_steps.py",
    "test_profile_torch.py",
    "test_ranks.py",
    "test_real_servers.py",
}
"""Files whose tests take many seconds each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first: at the end no worker waits for another one's."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the checkout: traces, recorded decisions, measured runs. Skips where it is
    absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the reference data (../shared) is not there")
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The documentation as a site, built strictly, once for all workers; only to be read. Skips where what
    builds it is absent."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")
    filelock = pytest.importorskip("filelock")
    own = tmp_path_factory.getbasetemp()
    folder = own if worker_id == "master" else own.parent  # a worker's folder lies in that of the whole run
    out, built = folder / "site", folder / "site-is-built"
    with filelock.FileLock(folder / "site.lock"):
        if not built.exists():
            build_site(out)
            built.touch()
    return out


def build_site(out: Path) -> None:
    """Build the documentation into ``out``; what mkdocs warns of is an error."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
