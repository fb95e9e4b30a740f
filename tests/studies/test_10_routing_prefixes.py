"""Study 10: where prefixes are shared, a router that looks at caches bears more than others."""

from __future__ import annotations

from dataclasses import replace

from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_10, kit = script("10_routing_prefixes"), script("kit")


def test_a_router_that_knows_the_caches_bears_more() -> None:
    keep = {
        "set-up": ("LLaMA2-7B on 4 A100, 80 prefixes",),
        study_10.POLICY: ("least-requests", "prefix-aware"),
    }
    study = kit.read(study_10.NAME, study_10.SMALL, keep)
    question = replace(study_10.QUESTION, tolerance=0.1)
    found = study_10.answer(study, make_executor("serial"), question=question)
    load, caches = found.to_dicts()
    assert caches["cached"] > 1.2 * load["cached"]
    assert caches["rate"] > 1.2 * load["rate"] > 0
    assert rendered(study_10.draw(found), "svg").startswith(b"<svg")
