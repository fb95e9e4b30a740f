"""Study 7: what prefill devices need is compute; bandwidth can be halved (memory: study 5)."""

from __future__ import annotations

from dataclasses import replace

from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_7, kit = script("07_prefill_sensitivity"), script("kit")


def test_half_the_compute_halves_the_rate_and_half_of_anything_else_does_not() -> None:
    devices = ("as they are", "compute × 0.5", "bandwidth × 0.5")
    keep = {"set-up": ("LLaMA2-7B, 1 + 3 A100",), "prefill devices": devices}
    study = kit.read(study_7.NAME, study_7.SMALL, keep)
    question = replace(study_7.QUESTION, tolerance=0.1)
    found = study_7.answer(study, make_executor("serial"), question=question)
    rate = {row["prefill devices"]: row["rate"] for row in found.to_dicts()}
    whole = rate["as they are"]
    assert rate["compute × 0.5"] < 0.65 * whole
    assert rate["bandwidth × 0.5"] > 0.85 * whole
    assert rendered(study_7.draw(found), "svg").startswith(b"<svg")
