"""Study 4: memory bandwidth decodes; what it is worth depends on how much of a request is KV."""

from __future__ import annotations

import polars as pl
import pytest
from study_scripts import script

from tokensim.explore.executors import make_executor

hardware = script("04_decode_hardware")


@pytest.fixture(scope="module")
def worth() -> dict[tuple[str, str], dict[str, float]]:
    """One instance of each kind with LLaMA2-7B, by (workload, kind)."""
    frame = hardware.run(True, make_executor("serial"), None)
    rows = hardware.worth(frame).iter_rows(named=True)
    return {(row["lengths"], row["kind"]): row for row in rows}


def test_a_quarter_of_the_arithmetic_decodes_more_than_half_as_much(
    worth: dict[tuple[str, str], dict[str, float]],
) -> None:
    for lengths in ("chat", "long prompts"):
        less, whole = (worth[lengths, kind]["rate"] for kind in ("A100, ¼ compute", "A100"))
        assert 0.5 * whole < less < 0.7 * whole


def test_memory_that_computes_is_worth_more_where_requests_are_mostly_kv(
    worth: dict[tuple[str, str], dict[str, float]],
) -> None:
    aim = {lengths: worth[lengths, "2 × GDDR6-AiM"]["even_usd"] for lengths in ("chat", "long prompts")}
    assert aim["long prompts"] > 1.5 * aim["chat"]


def test_the_break_even_price_of_the_usual_device_is_its_own(
    worth: dict[tuple[str, str], dict[str, float]],
) -> None:
    assert worth["chat", "A100"]["even_usd"] == pytest.approx(hardware.A100_USD)


def test_no_split_costs_more_than_the_budget() -> None:
    for row, _ in hardware._points(False):
        setup, _, _, usd, prefill, decode = row
        given = next(one for one in hardware.SETUPS if one.name == setup)
        if prefill != hardware.ALONE:
            spent = prefill * given.kinds[0].usd + decode * usd
            assert given.budget - usd < spent <= given.budget + 1e-6


def test_the_best_split_is_drawn() -> None:
    columns = ["setup", "lengths", "kind", "usd", "prefill", "decode", "rate", "ttft", "gap"]
    rows = [("S", "chat", "K", 1.0, p, 8 - p, rate, 1.0, 0.1) for p, rate in ((0, 9.0), (1, 2.0), (2, 3.0))]
    (figure,) = hardware.figures(pl.DataFrame(rows, schema=columns, orient="row"))
    assert figure.datasets["study"]["rate"] == [3.0]
