"""Study 9: longer chunks bring the first token earlier and make the gaps between tokens longer."""

from __future__ import annotations

from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.report.export import rendered

study_9, kit = script("09_chunk_size"), script("kit")


def test_longer_chunks_trade_gaps_for_the_first_token() -> None:
    keep = {"set-up": ("LLaMA2-7B on A100, 3 requests/s",), study_9.CHUNK: (256, 1024, 4096)}
    found = study_9.answer(kit.read(study_9.NAME, study_9.SMALL, keep), make_executor("serial"))
    short, middle, long = found.to_dicts()
    assert short["ttft_p50"] > 1.2 * middle["ttft_p50"] and middle["ttft_p50"] > long["ttft_p50"]
    assert short["itl_p99"] < 0.6 * middle["itl_p99"] and middle["itl_p99"] < 0.7 * long["itl_p99"]
    assert rendered(study_9.draw(found), "svg").startswith(b"<svg")
