"""Without PyTorch the command says what to install."""

from __future__ import annotations

import sys

import pytest

from tokensim.errors import InputError
from tokensim.profiling.kernels import open_bench


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'tokensim\[profile\]'"):
        open_bench("cpu")
