"""A pool that only decodes grows from none when prompts wait that somebody else has computed."""

from __future__ import annotations

from tokensim import Scenario, simulate


def test_decode_replicas_come_for_prompts_that_wait_and_go_in_between() -> None:
    """One request every 10 s, and a look every second: the first is served by the replica of the start, which
    goes at 1 s, and for each later one a replica comes."""
    pool = {"hardware": "h100-sxm-80gb"}
    scale = {"policy": "queue", "target": 1, "min": 0, "max": 2, "interval": "1s", "scale_down_after": "1s"}
    scenario = Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "performance": {"operators": "roofline"},
            "cluster": {
                "pools": [
                    {"name": "prefill", "role": "prefill", **pool},
                    {"name": "decode", "role": "decode", "startup": "500ms", "autoscale": scale, **pool},
                ]
            },
            "workload": {
                "arrivals": {"process": "constant", "rate": 0.1},
                "input_tokens": 100,
                "output_tokens": 50,
                "num_requests": 5,
            },
        }
    )
    result = simulate(scenario)
    assert result.summary.requests.finished == 5
    operations = result.summary.operations
    assert operations is not None
    lives = [(life.born_s, life.gone_s) for life in operations.replicas if life.pool == "decode"]
    assert lives == [(0, 1), (11, 13), (21, 23), (31, 33), (41, None)]
