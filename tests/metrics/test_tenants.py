from __future__ import annotations

import numpy as np
import pytest

from handmade import floats, ints, request_columns, run_log, summary
from tokensim.metrics.tenants import jain, tenants_of


def test_jain_is_one_for_equals_and_one_over_n_for_one_who_gets_all() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([1.0, 2.0]) == pytest.approx(9 / 10)
    assert jain([0.0, 0.0]) is None


def test_each_tenant_has_its_own_account() -> None:
    columns = request_columns(tenant=ints(0, 0, 1, 1, 7))
    tenants = tenants_of(columns, {})
    assert tenants is not None
    assert [t.tenant for t in tenants.tenants] == [0, 1, 7]
    zero, one, _ = tenants.tenants
    assert (zero.requests, zero.finished, zero.rejected) == (2, 2, 0)
    assert (one.requests, one.finished, one.rejected) == (2, 1, 1)
    assert zero.ttft_p50_s == pytest.approx((0.1 + 0.2) / 2)
    assert zero.input_tokens == 300
    assert one.input_tokens == 50, "of the rejected one nothing began"
    assert zero.tokens_per_s == pytest.approx((300 + zero.output_tokens) / 0.7), "from 0.0 to 0.7"


def test_weights_say_what_is_fair() -> None:
    columns = request_columns(
        tenant=ints(0, 0, 0, 0, 1),
        arrival_s=floats(0, 0, 0, 0, 0),
        first_token_s=floats(np.nan, np.nan, np.nan, 0.5, 0.5),
        last_delivery_s=floats(np.nan, np.nan, np.nan, 1.0, 1.0),
        input_tokens=ints(0, 0, 0, 90, 190),
        output_tokens=ints(0, 0, 0, 10, 10),
    )
    plain, weighted = tenants_of(columns, {}), tenants_of(columns, {1: 2.0})
    assert plain is not None and weighted is not None
    assert plain.fairness == pytest.approx(0.9)  # rates 100 and 200
    assert weighted.fairness == pytest.approx(1.0)


def test_without_tenants_there_is_no_such_account() -> None:
    assert summary().tenants is None
    log = run_log(requests=request_columns(tenant=ints(0, 0, 0, 0, 0)))
    tenants = summary(log).tenants
    assert tenants is not None and tenants.fairness == pytest.approx(1.0)
