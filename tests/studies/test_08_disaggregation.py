"""Study 8: on two devices, apart loses with short prompts; with long ones the link decides."""

from __future__ import annotations

from dataclasses import replace

from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_8, kit = script("08_disaggregation"), script("kit")
DEVICES = ("together, chunked prefill", "apart, NVLink", "apart, 10 Gb/s")


def rates(set_up: str) -> dict[str, float]:
    study = kit.read(study_8.NAME, study_8.SMALL, {"set-up": (set_up,), "devices": DEVICES})
    question = replace(study_8.QUESTION, tolerance=0.1)
    found = study_8.answer(study, make_executor("serial"), question=question)
    assert rendered(study_8.draw(found), "svg").startswith(b"<svg")
    return {row["devices"]: row["rate"] for row in found.to_dicts()}


def test_with_long_prompts_a_slow_link_undoes_disaggregation() -> None:
    rate = rates("OPT-13B on A100, 1,900 in, 64 out")
    assert rate["apart, 10 Gb/s"] < 0.5 * rate["apart, NVLink"]
    assert rate["apart, 10 Gb/s"] < rate["together, chunked prefill"]
