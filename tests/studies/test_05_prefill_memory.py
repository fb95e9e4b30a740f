"""Study 5: prefill devices do with half their memory, decode devices do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_5, kit = script("05_prefill_memory"), script("kit")
SET_UP = "LLaMA2-7B on 2 + 1 A100 (decode binds)"


def test_half_the_memory_costs_decode_devices_much_and_prefill_devices_nothing() -> None:
    memories = ("all of it", "half on prefill devices", "half on decode devices")
    study = kit.read(study_5.NAME, study_5.SMALL, {"set-up": (SET_UP,), "memory": memories})
    question = replace(study_5.QUESTION, tolerance=0.1)
    found = study_5.answer(study, make_executor("serial"), question=question)
    whole, prefill, decode = (kit.value(found, memory=memory) for memory in memories)
    assert prefill == pytest.approx(whole, rel=0.1)
    assert 0 < decode < 0.85 * whole
    assert rendered(study_5.draw(found), "svg").startswith(b"<svg")
