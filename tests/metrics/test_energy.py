"""Energy and money: figures worked out by hand, and conservation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handmade import (
    FakeCost,
    empty_log,
    facts,
    floats,
    ints,
    request_columns,
    run_log,
    step_columns,
    step_rows,
)
from tokensim import Scenario, simulate
from tokensim.cost.base import Activity, StepColumns
from tokensim.hardware import Draw
from tokensim.metrics.energy import InstanceFacts, instance_energy, request_energy
from tokensim.metrics.frames import requests_frame
from tokensim.metrics.spending import Electricity, spending_of
from tokensim.metrics.summary import summarize
from tokensim.metrics.usage import Standing

# The run of handmade.py: both instances busy for 1 s of 2 s. Rows with chunks (0.1 s on instance 0, 0.2 s on
# instance 1) are prefill to three quarters. Two devices each: 800 W busy, 200 W idle.


def test_energy_by_phase() -> None:
    energy = instance_energy(run_log().steps, facts(), floats(2.0, 2.0))
    assert energy.prefill_j == pytest.approx([800 * 0.075, 800 * 0.15])
    assert energy.decode_j == pytest.approx([800 * 0.925, 800 * 0.85])
    assert energy.idle_j == pytest.approx([200.0, 200.0])
    assert energy.prefill_s == pytest.approx([0.075, 0.15])
    assert energy.decode_s == pytest.approx([0.925, 0.85])


def test_an_instance_draws_idle_power_only_while_it_is_up() -> None:
    energy = instance_energy(run_log().steps, facts(), floats(1.5, 0.2))
    assert energy.idle_j == pytest.approx([100.0, 0.0])


def test_the_power_limit_holds() -> None:
    hungry = [InstanceFacts(FakeCost(), 1, 0.0, 700.0, 100.0, Draw(0.5, 1.0, 1.0, 1.0, "")) for _ in range(2)]
    energy = instance_energy(run_log().steps, hungry, floats(1.0, 1.0))
    assert energy.total_j == pytest.approx([700.0, 700.0])


def test_a_rank_that_steps_along_without_work_is_idle() -> None:
    class Dummy(FakeCost):
        def activity(self, steps: StepColumns) -> Activity:
            none = np.zeros(len(steps.steps))
            return Activity(none, none, none, none + np.nan)

    ranks = [InstanceFacts(Dummy(), 1, 0.0, 600.0, 100.0, Draw(0.2, 1.0, 1.0, 1.0, "")) for _ in range(2)]
    energy = instance_energy(run_log().steps, ranks, floats(1.0, 1.0))
    assert energy.idle_j == pytest.approx([200.0, 200.0])
    assert not (energy.prefill_j.any() or energy.decode_j.any())


def test_requests_stand_for_their_tokens() -> None:
    log = run_log()
    energy = instance_energy(log.steps, facts(), floats(2.0, 2.0))
    shares = request_energy(log.requests, energy)
    # Computed prompt tokens on instance 0: 100, 200 − 64 + 32, 50; decoded: 4, 2, 0. Instance 1 has one.
    computed = np.array([100, 168, 50]) / 318
    assert shares.prefill_j == pytest.approx([*(60 * computed), 0.0, 120.0])
    assert shares.decode_j == pytest.approx([740 * 4 / 6, 740 * 2 / 6, 0.0, 0.0, 680.0])


def test_a_prompt_that_was_computed_elsewhere_is_charged_there() -> None:
    log = run_log(requests=request_columns(instance=ints(1, 1, 1, -1, 1)))
    energy = instance_energy(log.steps, facts(), floats(2.0, 2.0))
    shares = request_energy(log.requests, energy, prefilled_on=ints(0, 0, 0, -1, 1))
    # No request decodes on instance 0: what decoding cost there goes to its prompts.
    assert shares.prefill_j[:3].sum() == pytest.approx(800)
    assert shares.prefill_j[4] == pytest.approx(120)
    assert shares.decode_j.sum() == pytest.approx(680)


def test_the_table_of_requests_has_what_they_stand_for() -> None:
    log = run_log()
    energy = request_energy(log.requests, instance_energy(log.steps, facts(), floats(2.0, 2.0)))
    frame = requests_frame(log, energy)
    assert frame["prefill_j"].sum() + frame["decode_j"].sum() == pytest.approx(1600)
    assert frame["decode_j"][3] == 0.0
    assert "decode_j" not in requests_frame(log).columns


def test_money_is_split_by_the_time_of_the_phases() -> None:
    spending = summarize(run_log(), facts()).spending
    # 0.02 dollars, half of them for each instance.
    assert spending.usd_per_million_input_tokens == pytest.approx(0.01 * (0.075 + 0.15) / 650 * 1e6)
    assert spending.usd_per_million_output_tokens == pytest.approx(0.01 * (0.925 + 0.85) / 18 * 1e6)
    assert (spending.electricity_usd, spending.usd) == (None, spending.devices_usd)
    assert spending.energy_kwh_by_phase == pytest.approx(
        {"prefill": 180 / 3.6e6, "decode": 1420 / 3.6e6, "idle": 400 / 3.6e6}
    )
    assert spending.joules_per_input_token == pytest.approx(180 / 650)
    assert spending.joules_per_output_token == pytest.approx(1420 / 18)
    assert spending.mean_power_w == pytest.approx(1000)


def test_every_pool_has_an_account_of_its_own() -> None:
    first, second = summarize(run_log(), facts()).spending.pools
    assert (first.pool, first.instances, first.input_tokens, first.output_tokens) == ("pool-0", 1, 350, 9)
    assert (second.pool, second.instances, second.input_tokens, second.output_tokens) == ("pool-1", 1, 300, 9)
    assert first.account.usd == pytest.approx(0.01)
    assert first.account.usd_per_million_output_tokens == pytest.approx(0.01 * 0.925 / 9 * 1e6)
    assert second.account.energy_kwh == pytest.approx(1000 / 3.6e6)


def test_a_pool_that_was_up_for_half_of_the_time_costs_half() -> None:
    spending = summarize(
        run_log(), facts(), standing=Standing(floats(0.0, 0.5), floats(np.inf, 1.5))
    ).spending
    assert [p.account.usd for p in spending.pools] == pytest.approx([0.01, 0.005])
    assert spending.device_hours == pytest.approx(2 * 3 / 3600)


def test_electricity_comes_on_top_where_it_has_a_price() -> None:
    spending = summarize(run_log(), facts(), electricity=Electricity(0.36, pue=1.5)).spending
    assert spending.electricity_usd == pytest.approx(2000 / 3.6e6 * 1.5 * 0.36)
    assert spending.usd == pytest.approx(0.02 + spending.electricity_usd)


def test_a_run_that_did_nothing_costs_nothing() -> None:
    spending = summarize(empty_log(), facts(instances=1)).spending
    assert (spending.usd, spending.energy_kwh) == (0.0, 0.0)
    assert spending.usd_per_million_input_tokens is None
    assert spending.mean_power_w is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nothing_is_lost(data: st.DataObject) -> None:
    """Requests and idle energy make the total, pools make the cluster, prices make the bill."""
    seconds = floats(*data.draw(st.lists(st.floats(0.01, 9.0), min_size=5, max_size=5)))
    rows = step_rows(what=step_columns(seconds=seconds))
    output = ints(*data.draw(st.lists(st.integers(2, 900), min_size=5, max_size=5)))
    requests = request_columns(output_tokens=output, scheduled_s=floats(0, 0, 0, 0, 0))
    alive_s = floats(*data.draw(st.lists(st.floats(0.0, 60.0), min_size=2, max_size=2)))
    energy = instance_energy(rows, facts(), alive_s)
    shares = request_energy(requests, energy)
    mine = shares.prefill_j.sum() + shares.decode_j.sum()
    assert mine + energy.idle_j.sum() == pytest.approx(energy.total_j.sum())
    busy_s = np.bincount(rows.instance, weights=seconds)
    assert energy.prefill_s + energy.decode_s == pytest.approx(busy_s)
    spent = spending_of(rows, requests, facts(), 5.0, alive_s=alive_s, electricity=Electricity(0.2))
    assert sum(p.account.energy_kwh for p in spent.pools) == pytest.approx(spent.energy_kwh)
    assert sum(p.account.usd for p in spent.pools) == pytest.approx(spent.usd)
    started = ~np.isnan(requests.first_token_s)
    given_, made = requests.input_tokens[started].sum(), output[requests.instance >= 0].sum()
    assert spent.usd_per_million_input_tokens is not None and spent.usd_per_million_output_tokens is not None
    parts = spent.usd_per_million_input_tokens * given_ + spent.usd_per_million_output_tokens * made
    assert parts == pytest.approx(spent.usd * 1e6)


def scenario(**changes: object) -> Scenario:
    pool = {"hardware": "h100-sxm-80gb", "replicas": 2}
    tree = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [{**pool, "name": "a"}, {**pool, "name": "b", "price_per_hour": 1.5}]},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 12},
            "input_tokens": {"distribution": "lognormal", "mean": 600, "cv": 1.0, "max": 4000},
            "output_tokens": {"distribution": "lognormal", "mean": 100, "cv": 1.0, "max": 900},
            "num_requests": 200,
        },
        "performance": {"operators": "roofline"},
    }
    return Scenario.model_validate({**tree, **changes})


def test_a_run_is_accounted_for_to_the_joule() -> None:
    result = simulate(scenario())
    spending, table = result.summary.spending, result.requests
    idle_j = spending.energy_kwh_by_phase["idle"] * 3.6e6
    assert table["prefill_j"].sum() + table["decode_j"].sum() + idle_j == pytest.approx(
        spending.energy_kwh * 3.6e6
    )
    dear, cheap = (p.account for p in spending.pools)
    assert (dear.usd / dear.device_hours, cheap.usd / cheap.device_hours) == pytest.approx((2.99, 1.5))
    for account in (spending, dear, cheap):
        assert account.mean_power_w is not None
    assert 4 * 70 < spending.mean_power_w < 4 * 700  # type: ignore[operator]


def test_step_runs_draw_what_single_steps_draw() -> None:
    runs, walked = simulate(scenario()), simulate(scenario(), exact_steps=True)
    a, b = runs.summary.spending, walked.summary.spending
    assert len(runs.steps) < len(walked.steps)
    for phase, kwh in a.energy_kwh_by_phase.items():
        assert kwh == pytest.approx(b.energy_kwh_by_phase[phase], rel=1e-9)
    assert a.usd_per_million_input_tokens == pytest.approx(b.usd_per_million_input_tokens, rel=1e-9)


def test_electricity_of_a_scenario_is_charged() -> None:
    pools = [{"hardware": "h100-sxm-80gb", "price_per_hour": 0}]
    cluster = {"pools": pools, "electricity": {"usd_per_kwh": 0.1, "pue": 1.2}}
    spending = simulate(scenario(cluster=cluster)).summary.spending
    assert spending.devices_usd == 0.0
    assert spending.usd == spending.electricity_usd == pytest.approx(spending.energy_kwh * 0.12)


def test_later_stages_of_a_pipeline_work_for_the_requests_of_the_first() -> None:
    log = run_log(requests=request_columns(instance=ints(0, 0, 0, -1, 0)))
    energy = instance_energy(log.steps, facts(), floats(2.0, 2.0))
    shares = request_energy(log.requests, energy, later_stages={1})
    assert shares.prefill_j.sum() == pytest.approx(180)
    assert shares.decode_j.sum() == pytest.approx(1420)


def plain(**pool: object) -> Scenario:
    return scenario(cluster={"pools": [{"hardware": "h100-sxm-80gb", **pool}]})


def apart() -> Scenario:
    pools = [{"name": role, "role": role, "hardware": "h100-sxm-80gb"} for role in ("prefill", "decode")]
    return scenario(cluster={"pools": pools})


@pytest.mark.parametrize(
    "made",
    [plain(parallel={"pipeline": 2}), plain(parallel={"data": 2}), apart()],
    ids=["pipeline", "data parallel", "prefill apart"],
)
def test_every_plan_is_accounted_for_to_the_joule(made: Scenario) -> None:
    result = simulate(made)
    spending, table = result.summary.spending, result.requests
    idle_kwh = spending.energy_kwh_by_phase["idle"]
    mine_j = table["prefill_j"].sum() + table["decode_j"].sum()
    assert mine_j == pytest.approx((spending.energy_kwh - idle_kwh) * 3.6e6)
    assert sum(p.input_tokens for p in spending.pools) == result.summary.tokens.input
    assert sum(p.output_tokens for p in spending.pools) == result.summary.tokens.output


def test_a_prefill_pool_pays_for_input_tokens_and_a_decode_pool_for_output_tokens() -> None:
    prefill, decode = simulate(apart()).summary.spending.pools
    assert prefill.input_tokens > 0 and prefill.output_tokens == 0
    assert decode.output_tokens > 0
    assert prefill.account.energy_kwh_by_phase["decode"] == 0.0
    assert decode.account.usd_per_million_output_tokens is not None
