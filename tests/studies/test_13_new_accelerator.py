"""Study 13: designs are priced by the catalog, and the cheapest device does not give the cheapest tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_scripts import script

from tokensim.explore.executors import make_executor
from tokensim.hardware import load_device
from tokensim.report.export import rendered

study_13, kit = script("13_new_accelerator"), script("kit")


def test_prices_are_near_those_that_they_are_fitted_to() -> None:
    base = load_device(study_13.BASE)
    assert study_13.price_of(1, 1, 1) == pytest.approx(base.price_per_hour_usd, rel=0.2)
    assert study_13.price_of(2, 2, 2) == pytest.approx(2 * study_13.price_of(1, 1, 1))
    assert min(study_13.prices()) >= 0


def test_bandwidth_pays() -> None:
    keep = {
        "model": ("meta-llama/Llama-2-7b-hf",),
        study_13.SCALE + "compute": (1,),
        study_13.SCALE + "bandwidth": (0.5, 2),
        study_13.SCALE + "memory": (1,),
    }
    study = kit.read(study_13.NAME, study_13.SMALL, keep)
    question = replace(study_13.QUESTION, tolerance=0.1)
    found = study_13.answer(study, make_executor("serial"), question=question)
    best, worst = found.to_dicts()
    assert (best["bandwidth"], worst["bandwidth"]) == (2, 0.5)
    assert best["price"] > worst["price"] and best["usd_per_million"] < worst["usd_per_million"]
    assert rendered(study_13.draw(found), "svg").startswith(b"<svg")
