"""Every schedule is checked in both forms: walked request by request, and aggregated."""

from __future__ import annotations

from functools import partial

import pytest
from drive import Drive
from story import Story


@pytest.fixture(params=[True, False], ids=["walked", "aggregated"])
def drive(request: pytest.FixtureRequest) -> partial[Drive]:
    return partial(Drive, exact_steps=request.param)


@pytest.fixture(params=[True, False], ids=["walked", "aggregated"])
def story(request: pytest.FixtureRequest) -> partial[Story]:
    return partial(Story, exact_steps=request.param)
