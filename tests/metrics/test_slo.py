from __future__ import annotations

import numpy as np
import pytest

from handmade import empty_log, request_columns, run_log, summary
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.latency import request_latency
from tokensim.metrics.slo import Slo, SloReport, judge


def _judge(slo: Slo, status: list[int] | None = None) -> SloReport:
    requests = request_columns(**({"status": np.array(status, dtype=np.int8)} if status else {}))
    return judge(slo, requests, request_latency(requests), gaps_of(run_log()), 2.0)


def test_goodput_counts_requests_that_meet_every_bound() -> None:
    # TTFT 0.1, 0.2, 0.5, 0.2; TPOT 0.1, 0.2, none, 0.1; the rejected one meets nothing.
    report = _judge(Slo(ttft_s=0.3, tpot_s=0.15))
    assert (report.good_requests, report.judged_requests) == (2, 5)
    assert report.good_share == pytest.approx(0.4)
    assert report.goodput_per_s == pytest.approx(1.0)
    assert [(b.metric, b.share) for b in report.bounds] == [("ttft", 0.6), ("tpot", 0.6)]


def test_a_single_output_token_meets_any_tpot_bound() -> None:
    assert _judge(Slo(tpot_s=0.001)).good_requests == 1


def test_the_verdict_is_taken_at_the_percentile() -> None:
    at_half = _judge(Slo(e2e_s=0.6, percentile=50))  # E2E 0.5, 0.5, 0.6, 1.0: median 0.55
    assert at_half.bounds[0].value_s == pytest.approx(0.55)
    assert at_half.met is True
    assert _judge(Slo(e2e_s=0.6, percentile=99)).met is False


def test_one_missed_bound_misses_the_slo() -> None:
    report = _judge(Slo(ttft_s=10.0, tpot_s=0.01))
    assert [b.met for b in report.bounds] == [True, False]
    assert report.met is False


def test_a_bound_is_met_by_its_own_value() -> None:
    assert _judge(Slo(ttft_s=0.5)).bounds[0].share == pytest.approx(0.8)


def test_requests_still_running_are_not_judged() -> None:
    report = _judge(Slo(ttft_s=0.3), status=[1, 1, 1, 3, 0])
    assert (report.good_requests, report.judged_requests) == (2, 4)


def test_nothing_judged_gives_no_verdict() -> None:
    report = summary(empty_log(), slo=Slo(ttft_s=1.0)).slo
    assert report is not None
    assert (report.met, report.good_share, report.goodput_per_s) == (None, None, None)
    assert report.bounds[0].value_s is None


def test_an_slo_without_bounds_is_no_slo() -> None:
    assert summary(slo=Slo()).slo is None


def test_the_itl_bound_is_judged_over_all_gaps_and_leaves_goodput_alone() -> None:
    # The gaps: twelve of 0.1 s, two of 0.2, one of 0.3, one of 0.5.
    missed = _judge(Slo(ttft_s=0.3, itl_s=0.2, percentile=90))
    assert [(b.metric, b.value_s, b.met) for b in missed.bounds][1] == ("itl", 0.3, False)
    assert missed.bounds[1].share == pytest.approx(14 / 16)
    assert missed.met is False
    assert missed.good_requests == _judge(Slo(ttft_s=0.3)).good_requests
    assert _judge(Slo(itl_s=0.2, percentile=50)).met is True
