"""Study 6: with a pool behind the device, conversations are served at a higher rate."""

from __future__ import annotations

from dataclasses import replace

from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_6, kit = script("06_memory_pool"), script("kit")


def test_a_pool_raises_the_rate_of_conversations_over_no_reuse() -> None:
    memories = ("no reuse", "the device and a pool")
    keep = {"set-up": ("LLaMA2-7B on one A100",), "memory": memories, "workload.output_tokens": (64,)}
    study = kit.read(study_6.NAME, study_6.SMALL, keep)
    question = replace(study_6.QUESTION, tolerance=0.1)
    found = study_6.answer(study, make_executor("serial"), question=question)
    without, pool = (kit.value(found, memory=memory) for memory in memories)
    assert 0 < 1.3 * without < pool
    assert rendered(study_6.draw(found), "svg").startswith(b"<svg")
