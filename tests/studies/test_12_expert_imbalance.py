"""Study 12: popular experts cost a model of few large ones much of its rate; copies bring most of it back."""

from __future__ import annotations

from dataclasses import replace

from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_12, kit = script("12_expert_imbalance"), script("kit")


def test_popular_experts_cost_and_copies_help() -> None:
    experts = ("all alike", "Zipf 1", "Zipf 1, EPLB with 4 copies")
    keep = {"set-up": ("Mixtral-8x7B on 4 A100",), "experts": experts}
    study = kit.read(study_12.NAME, study_12.SMALL, keep)
    question = replace(study_12.QUESTION, tolerance=0.1)
    found = study_12.answer(study, make_executor("serial"), question=question)
    alike, popular, copied = (kit.value(found, experts=name) for name in experts)
    assert 0 < popular < 0.75 * alike
    assert popular < 0.85 * copied
    assert rendered(study_12.draw(found), "svg").startswith(b"<svg")
