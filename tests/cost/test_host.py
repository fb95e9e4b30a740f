"""What the host adds to a step, and what of it the device hides."""

from __future__ import annotations

import pytest

from tokensim.cost import Host


def test_the_host_needs_time_for_a_step_and_for_each_request() -> None:
    assert Host(9.0, 1.0, 0.25, asynchronous=True).busy_s(4) == 2.0


def test_synchronous_the_device_waits_for_all_of_it() -> None:
    host = Host(0.5, 1.0, 0.25, asynchronous=False)
    assert host.step(3.0, 4) == 3.0 + 2.0 + 0.5
    assert host.step(0.0, 0) == 1.5


@pytest.mark.parametrize(("device_s", "step_s"), [(3.0, 3.5), (2.0, 2.5), (1.0, 2.5), (0.0, 2.5)])
def test_asynchronous_a_step_lasts_as_long_as_the_slower_of_the_two(device_s: float, step_s: float) -> None:
    assert Host(0.5, 1.0, 0.25, asynchronous=True).step(device_s, 4) == step_s
