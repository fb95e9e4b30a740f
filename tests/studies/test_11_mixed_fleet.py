"""Study 11: of a mixed fleet round-robin makes one of the slow devices; predicted work does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_11, kit = script("11_mixed_fleet"), script("kit")


def test_round_robin_bears_what_slow_devices_alone_bear() -> None:
    fleets = ("4 A100", "2 + 2, round-robin", "2 + 2, shortest-queue")
    keep = {"model": ("meta-llama/Llama-3.1-8B",), "fleet": fleets}
    study = kit.read(study_11.NAME, study_11.SMALL, keep)
    question = replace(study_11.QUESTION, tolerance=0.1)
    found = study_11.answer(study, make_executor("serial"), question=question)
    slow, in_turn, by_work = found.to_dicts()
    assert in_turn["rate"] == pytest.approx(slow["rate"], rel=0.25)
    assert by_work["rate"] > 1.5 * in_turn["rate"]
    assert in_turn["usd"] > slow["usd"]
    assert rendered(study_11.draw(found), "svg").startswith(b"<svg")
