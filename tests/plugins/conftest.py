"""What is registered, for tests that register."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tokensim import register

KINDS = ("local_scheduler", "global_scheduler", "gateway_order", "hook", "eviction")


@pytest.fixture
def forgets_what_is_registered() -> Iterator[None]:
    """Plug-ins that a test registers are gone after it."""
    before = {kind: dict(getattr(register, kind)._parts) for kind in KINDS}
    yield
    for kind, parts in before.items():
        getattr(register, kind)._parts = parts
