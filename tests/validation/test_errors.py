"""Errors are what a person computes from the two columns of times."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from case_files import write_case
from tokensim import InputError
from tokensim.cost.calibration import Calibration
from tokensim.validation.case import read_case
from tokensim.validation.errors import CaseErrors, errors_of, parse_share
from tokensim.validation.replay import Replay, document_of, replay, times_of


def two_sides(tmp_path: Path, measured: Any, simulated: Any) -> CaseErrors:
    """The errors between two sides of (ttft, e2e, output tokens) columns, all sent at 0, 1, 2 … s."""
    row = {"arrival_s": 0, "sent_s": 0, "input_tokens": 1, "output_tokens": 1, "ttft_s": 1, "e2e_s": 1}
    case = read_case(write_case(tmp_path / "a", [row]))
    sides = [
        times_of(
            np.arange(len(side), dtype=float),
            *(np.array([row[column] for row in side], dtype=float) for column in (0, 1)),
            np.array([row[2] for row in side]),
        )
        for side in (measured, simulated)
    ]
    return errors_of(Replay(case, *sides, ()))


def test_errors_of_two_requests_computed_by_hand(tmp_path: Path) -> None:
    # TTFT 1, 3 → 2, 3; E2E 2, 5 → 3, 7; two gaps each: TPOT 0.5, 1 → 0.5, 2
    errors = two_sides(tmp_path, [(1, 2, 3), (3, 5, 3)], [(2, 3, 3), (3, 7, 3)])
    assert errors.measured["ttft"]["mean"] == 2
    assert errors.simulated["ttft"]["mean"] == 2.5
    assert errors.error["ttft"]["mean"] == pytest.approx(0.25)
    assert errors.error["ttft"]["p50"] == pytest.approx(0.25)
    assert errors.error["ttft"]["p90"] == pytest.approx(2.9 / 2.8 - 1)
    assert errors.error["tpot"]["mean"] == pytest.approx(1.25 / 0.75 - 1)
    assert errors.error["e2e"]["mean"] == pytest.approx(5 / 3.5 - 1)
    # six tokens from 0 s to 1 + 5 and 1 + 7 s
    assert errors.measured["throughput"]["mean"] == pytest.approx(6 / 6)
    assert errors.simulated["throughput"]["mean"] == pytest.approx(6 / 8)
    assert errors.error["throughput"]["mean"] == pytest.approx(-0.25)
    assert errors.per_request["ttft"].seconds == pytest.approx(0.5)
    assert errors.per_request["ttft"].relative == pytest.approx((1 + 0) / 2)
    assert errors.per_request["e2e"].relative == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert errors.worst_mean() == pytest.approx(1.25 / 0.75 - 1)


def test_a_single_output_token_has_no_tpot(tmp_path: Path) -> None:
    errors = two_sides(tmp_path, [(1, 1, 1)], [(2, 2, 1)])
    assert errors.error["tpot"]["mean"] is None
    assert errors.per_request["tpot"].relative is None
    assert errors.worst_mean() == 1.0
    json.dumps(errors.to_dict(), allow_nan=False)


def test_a_request_that_the_simulation_did_not_finish_leaves_only_its_own_figures_out(tmp_path: Path) -> None:
    errors = two_sides(tmp_path, [(1, 2, 2), (1, 2, 2)], [(1, 2, 2), (math.nan, math.nan, 2)])
    assert errors.error["e2e"]["mean"] == 0
    assert errors.error["throughput"]["mean"] == pytest.approx((2 / 2) / (4 / 3) - 1)


def test_nothing_simulated_is_an_infinite_error(tmp_path: Path) -> None:
    errors = two_sides(tmp_path, [(1, 2, 2)], [(math.nan, math.nan, 2)])
    assert errors.error["e2e"]["mean"] is None
    assert errors.worst_mean() == math.inf


@given(st.floats(0.5, 2.0), st.lists(st.floats(0.01, 10), min_size=1, max_size=20))
def test_stretched_times_are_off_by_the_stretch_in_every_figure(
    tmp_path_factory: pytest.TempPathFactory, factor: float, times: list[float]
) -> None:
    measured = [(t, 3 * t, 5) for t in times]
    errors = two_sides(
        tmp_path_factory.mktemp("case"), measured, [(a * factor, b * factor, n) for a, b, n in measured]
    )
    for metric in ("ttft", "tpot", "e2e"):
        assert all(e == pytest.approx(factor - 1, abs=1e-9) for e in errors.error[metric].values())
        assert errors.per_request[metric].relative == pytest.approx(abs(factor - 1), abs=1e-9)


@pytest.mark.parametrize("anchor", ["client-send", "engine-queue"])
@pytest.mark.parametrize("cap", [None, 4])
def test_a_case_that_was_simulated_replays_without_error(simulated_case: Any, anchor: str, cap: int) -> None:
    truth = Calibration(host_gap_s=1e-3, client_s=4e-3)
    case = read_case(simulated_case(truth=truth, anchor=anchor, cap=cap))
    errors = errors_of(replay(case, document_of(case).check(), truth))
    assert errors.worst_mean() < 1e-4  # times are written with six decimals
    assert all(value.relative is not None and value.relative < 1e-3 for value in errors.per_request.values())
    assert errors.notes == ()
    default = errors_of(replay(case, document_of(case).check()))
    assert default.error["tpot"]["mean"] is not None
    assert default.error["tpot"]["mean"] < -0.01


def test_the_client_is_seen_from_outside_only(simulated_case: Any) -> None:
    outside = read_case(simulated_case("outside", anchor="client-send"))
    inside = read_case(simulated_case("inside", anchor="engine-queue"))
    assert (outside.measured.ttft_s > inside.measured.ttft_s).mean() > 0.9


def test_a_cap_on_requests_in_flight_is_replayed_as_a_closed_loop(simulated_case: Any) -> None:
    case = read_case(simulated_case(rate=200.0, cap=2))
    assert (case.measured.anchor_s - case.measured.arrival_s).max() > 1.0, "the client held requests back"
    assert case.measured.e2e_s.max() < 2.0, "what was sent did not queue"
    open_loop = errors_of(replay(case, document_of(case, ["workload.max_in_flight=null"]).check()))
    assert open_loop.error["e2e"]["mean"] is not None
    assert open_loop.error["e2e"]["mean"] > 0.4


def test_requests_that_are_cut_short_are_noted(simulated_case: Any) -> None:
    case = read_case(simulated_case())
    document = document_of(case, ["engine.max_model_len=600"])
    errors = errors_of(replay(case, document.check()))
    assert any("cut short" in note for note in errors.notes)


def test_a_calibration_of_another_device_is_noted(simulated_case: Any) -> None:
    case = read_case(simulated_case())
    scenario = document_of(case).check()
    assert replay(case, scenario, Calibration(device="h100-sxm-80gb")).notes == ()
    notes = replay(case, scenario, Calibration(device="a100-sxm-80gb")).notes
    assert notes == ("the calibration is of a100-sxm-80gb, the case of h100-sxm-80gb",)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 12.5 % ", 0.125), ("0", 0.0)])
def test_shares(text: str, share: float) -> None:
    assert parse_share(text, "--fail-above") == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "five", "-1%", "nan", "inf"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a share"):
        parse_share(text, "--fail-above")
