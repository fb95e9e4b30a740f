"""Rows of calls on a GPU of paper: what is timed is the device, however the calls get there."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from fake_cuda import FakeCuda

from tokensim.profiling.bench import DeviceLost
from tokensim.profiling.timing import Policy, timed

POLICY = Policy(sample_s=1e-3)


def runner_on(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    from tokensim.profiling.kernels import runner

    monkeypatch.setattr(runner, "torch", SimpleNamespace(cuda=gpu, zeros=gpu.zeros))
    monkeypatch.setattr(runner, "time", SimpleNamespace(perf_counter=lambda: gpu.host_s))
    return runner.Runner(SimpleNamespace(type="cuda"))


@pytest.mark.parametrize("seconds", [2e-6, 20e-6, 1e-3, 0.1])
def test_launches_are_not_in_the_time(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeCuda()
    sample = runner_on(gpu, monkeypatch).sampler([partial(gpu.kernel, seconds)])
    measured = timed(sample, POLICY, clock=lambda: gpu.host_s)
    assert measured.seconds == pytest.approx(seconds, rel=1e-6)


def test_a_graph_holds_many_short_calls_and_one_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeCuda()
    runner = runner_on(gpu, monkeypatch)
    runner.sampler([partial(gpu.kernel, 2e-6)])
    runner.sampler([partial(gpu.kernel, 2e-6)] * 5)
    runner.sampler([partial(gpu.kernel, 0.1)])
    runner.sampler([partial(gpu.kernel, 0.1)] * 3)  # each with weights of its own: all of them
    assert gpu.graphs == [16, 20, 1, 3]


def test_a_long_call_takes_the_time_that_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeCuda()
    sample = runner_on(gpu, monkeypatch).sampler([partial(gpu.kernel, 0.1)])
    timed(sample, POLICY, clock=lambda: gpu.host_s)
    assert gpu.host_s < 1.5 * POLICY.expected_s(0.1)


def test_calls_that_cannot_be_captured_are_launched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeCuda()
    runner = runner_on(gpu, monkeypatch)

    def waits() -> None:
        gpu.kernel(50e-6)
        gpu.wait()

    sample = runner.sampler([waits])
    assert runner.eager == 1
    assert sample(10) >= 10 * 50e-6
    assert runner.sampler([partial(gpu.kernel, 1e-3)])(4) == pytest.approx(4e-3)
    assert runner.eager == 1


def test_a_device_that_captures_nothing_any_more_is_not_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeCuda(broken=True)
    runner = runner_on(gpu, monkeypatch)
    with pytest.raises(DeviceLost, match="INTERNAL ASSERT"):
        runner.sampler([gpu.wait])


@pytest.mark.parametrize(("size", "seconds", "together"), [(1 << 10, 15e-6, 16), (64 << 20, 5e-3, 1)])
def test_collectives_are_timed_without_their_launches(
    size: int, seconds: float, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeCuda()
    runner_on(gpu, monkeypatch)
    from tokensim.profiling.kernels.collectives import _row

    row = _row(partial(gpu.kernel, seconds), size, SimpleNamespace(type="cuda"))  # type: ignore[arg-type]
    assert [row(count) / count for count in (1, 16, 40)] == pytest.approx([seconds] * 3)
    assert gpu.graphs == [together]
