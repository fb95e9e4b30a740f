"""What the control plane does, worked out by hand: every step lasts a second."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import pytest
from axis import ConstantCost, workload

from tokensim.assemble.operations import lives_of
from tokensim.engine import Instance, Simulation
from tokensim.engine.autoscaler import Autoscaler, Schedule, kv_use, queue
from tokensim.engine.failures import FailureAt, RandomFailures, Throttle
from tokensim.engine.hooks import Hook
from tokensim.engine.replica import ReplicaPool, State
from tokensim.engine.restarts import RollingRestart
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.metrics.operations import operations_of
from tokensim.scheduling.cluster import LeastRequests
from tokensim.scheduling.local import Limits, Vllm
from tokensim.workload import Workload

BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])


def cluster(
    requests: Workload,
    hooks: Sequence[Hook] = (),
    *,
    replicas: int = 1,
    startup_s: float = 0.0,
    slots: int = 100,
    blocks: int = 1000,
    exact_steps: bool = False,
) -> Simulation:
    made = Simulation(requests, LeastRequests(), hooks=hooks)
    limits = Limits(
        num_gpu_blocks=blocks + 1,
        block_size=4,
        max_num_seqs=slots,
        max_num_batched_tokens=1000,
        enable_prefix_caching=False,
        async_scheduling=False,
    )

    def make() -> Instance:
        return Instance(
            made.next_index,
            Vllm(limits, exact_steps=exact_steps),
            ConstantCost(),
            made.recorder,
            max_model_len=limits.max_model_len,
            caching=False,
            asynchronous=False,
            pause_before_idle=True,
            on_finish=made.on_finish,
        )

    pool = ReplicaPool("serve", make, startup_s=startup_s)
    for _ in range(replicas):
        made.add_instance(make(), pool)
    return made


def lives(made: Simulation) -> list[tuple[float, float, float]]:
    return [(replica.born_s, replica.up_s, replica.gone_s) for replica in made.replicas]


def statuses(log: RunLog) -> list[str]:
    return [STATUSES[status] for status in log.requests.status]


# Sizes.


@BOTH
def test_a_schedule_starts_replicas_that_serve_after_their_startup(exact_steps: bool) -> None:
    """From 2 s on two replicas; the second one serves from 5 s on, and takes the arrival at 6 s."""
    made = cluster(
        workload([0.0, 4.5, 6.0], [10, 10, 10]),
        [Schedule("serve", [(2.0, 2)])],
        startup_s=3.0,
        exact_steps=exact_steps,
    )
    log = made.run()
    assert lives(made) == [(0.0, 0.0, inf), (2.0, 5.0, inf)]
    assert log.requests.instance.tolist() == [0, 0, 1]


@BOTH
def test_a_replica_that_is_scaled_away_serves_what_it_has_first(exact_steps: bool) -> None:
    made = cluster(
        workload([0.0, 0.0, 3.0], [10, 10, 1]),
        [Schedule("serve", [(2.5, 1)])],
        replicas=2,
        exact_steps=exact_steps,
    )
    log = made.run()
    assert lives(made) == [(0.0, 0.0, inf), (0.0, 0.0, 10.0)]
    assert log.requests.instance.tolist() == [0, 1, 0]
    assert log.requests.finish_s.tolist() == [10.0, 10.0, 4.0]


@BOTH
def test_a_schedule_of_none_parks_requests_until_there_is_somebody(exact_steps: bool) -> None:
    made = cluster(
        workload([0.0, 3.0], [2, 2]), [Schedule("serve", [(2.5, 0), (7.0, 1)])], exact_steps=exact_steps
    )
    log = made.run()
    assert log.requests.finish_s.tolist() == [2.0, 9.0]
    assert log.requests.instance.tolist() == [0, 1]


def scaler(**changes: float) -> Autoscaler:
    options = {"least": 1, "most": 8, "interval_s": 1.0, "patience_s": 3.0, **changes}
    return Autoscaler("serve", queue, 2.0, **options)  # type: ignore[arg-type]


@BOTH
def test_the_autoscaler_wants_replicas_times_metric_over_target(exact_steps: bool) -> None:
    """One slot, seven requests at 0 s: at 1 s six wait, the target is two: ceil(1 x 6 / 2) = 3 replicas."""
    made = cluster(
        workload([0.0] * 7, [5] * 7), [scaler()], slots=1, startup_s=100.0, exact_steps=exact_steps
    )
    made.run()
    assert [born_s for born_s, _, _ in lives(made)] == [0.0, 1.0, 1.0]


def test_the_autoscaler_stays_within_its_bounds() -> None:
    made = cluster(workload([0.0] * 40, [3] * 40), [scaler(most=2)], slots=1, startup_s=1000.0)
    made.run()
    assert len(made.replicas) == 2


def test_within_a_tenth_of_the_target_nothing_changes() -> None:
    made = cluster(workload([0.0] * 3, [9] * 3), [scaler()], slots=1)  # two wait: exactly the target
    made.run()
    assert [born_s for born_s, _, _ in lives(made)] == [0.0]


def test_replicas_go_when_nobody_has_wanted_them() -> None:
    """Nobody ever waits, and never did: the first look finds one replica enough, and no wish for more before
    it."""
    made = cluster(workload([0.0, 0.0], [20, 20]), [scaler()], replicas=2)
    made.run()
    assert made.replicas[1].state is State.DOWN
    assert made.replicas[0].state is State.UP


def test_a_burst_that_has_passed_keeps_its_replicas_for_the_patience() -> None:
    """At 1 s five wait: ceil(5 / 2) = 3 wanted, and again none from 2 s on; the two leave when 1 s is more
    than 3 s ago, at the look at 5 s."""
    made = cluster(workload([0.0] * 6 + [1.5], [2] * 6 + [20]), [scaler()], slots=1)
    made.run()
    gone = [gone_s for _, _, gone_s in lives(made)[1:]]
    assert len(gone) == 2
    assert all(gone_s >= 5.0 for gone_s in gone)


@BOTH
def test_what_runs_when_all_replicas_go_at_once_is_served_where_it_is(exact_steps: bool) -> None:
    """Nobody waits, so that at 1 s both replicas go; neither is a place to move the other's requests to. A
    move would begin the prompt of three steps anew, and again at every look, without end."""
    made = cluster(
        workload([0.0, 0.5], [2, 2], [2500, 2500]),
        [scaler(least=0, patience_s=0.5, migrate=True)],
        replicas=2,
        exact_steps=exact_steps,
    )
    log = made.run()
    assert log.requests.instance.tolist() == [0, 1]
    assert log.requests.finish_s.tolist() == [4.0, 4.5]
    assert [gone_s for _, _, gone_s in lives(made)] == [4.0, 4.5]


@pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])
def test_the_metrics_are_what_they_say(exact_steps: bool) -> None:
    """Two of five run, at 30.5 s with 39 tokens in ten blocks each; nobody is parked."""
    requests = workload([0.0] * 5, [50] * 5, [8] * 5)
    made = cluster(requests, slots=2, blocks=40, exact_steps=exact_steps)
    seen: list[tuple[float, float, float, float]] = []

    class Look(Hook):
        def on_start(self) -> None:
            self.control.read_loads()
            self.control.at(30.5, self.look)

        def look(self) -> None:
            control, pool = self.control, self.control.pool("serve")
            none = ReplicaPool("none", pool.make)
            seen.append(
                (queue(control, pool), kv_use(control, pool), queue(control, none), kv_use(control, none))
            )

    look = Look()
    look.control = made.control
    look.on_start()
    made.run()
    assert seen == [(3, pytest.approx(2 * 10 / 40), 0, 0)]


# Failures.


@BOTH
@pytest.mark.parametrize(
    ("fate", "status", "finish_s"),
    [("resume", "finished", 11.0), ("restart", "finished", 15.0), ("lose", "failed", None)],
)
def test_what_becomes_of_the_requests_of_a_replica_that_dies(
    fate: str, status: str, finish_s: float | None, exact_steps: bool
) -> None:
    """It dies at 3.5 s and the step in flight ends at 4 s with token 4. Resumed: the prompt and these
    four are computed again in the step that gives token 5: the new replica is there at 5 s, the tenth
    token at 11 s. Begun anew, it takes ten steps from 5 s on."""
    made = cluster(
        workload([0.0], [10]),
        [FailureAt("serve", 3.5, None, fate, recovery_s=1.5)],  # type: ignore[arg-type]
        exact_steps=exact_steps,
    )
    log = made.run()
    assert statuses(log) == [status]
    if finish_s is not None:
        assert log.requests.finish_s.tolist() == [finish_s]
        assert log.retries is not None and log.retries.tolist() == [1]
        assert log.requests.output_tokens.tolist() == [10]
    done = operations_of(log, lives_of(made))
    assert done is not None and done.failures == 1
    assert done.replicas[0].gone_s == log.steps.end_s[log.steps.instance == 0].max() == 4.0


@BOTH
def test_what_a_dead_replica_leaves_misses_the_decisions_of_that_instant(exact_steps: bool) -> None:
    """Two replicas in lockstep; what replica 0 has when its step ends at 4 s comes to replica 1 when that has
    decided: it joins at 5 s, where it gets token 5 at 6 s and the tenth at 11 s."""
    made = cluster(
        workload([0.0, 0.0], [10, 10]),
        [FailureAt("serve", 3.5, 0, "resume")],
        replicas=2,
        exact_steps=exact_steps,
    )
    assert made.run().requests.finish_s.tolist() == [11.0, 10.0]


@BOTH
def test_a_request_fails_after_so_many_retries(exact_steps: bool) -> None:
    hooks = [FailureAt("serve", at_s, None, "resume", recovery_s=0.0, max_retries=1) for at_s in (2.5, 5.5)]
    log = cluster(workload([0.0, 6.5], [100, 2]), hooks, exact_steps=exact_steps).run()
    assert statuses(log) == ["failed", "finished"]
    assert log.retries is not None and log.retries.tolist() == [1, 0]


def test_without_recovery_what_nobody_can_serve_fails() -> None:
    log = cluster(workload([0.0, 9.0], [5, 5]), [FailureAt("serve", 1.5, 0, "resume")]).run()
    assert statuses(log) == ["failed", "failed"]


def test_the_replica_with_the_number_dies() -> None:
    made = cluster(workload([0.0] * 4, [9] * 4), [FailureAt("serve", 1.5, 2, "resume")], replicas=3)
    log = made.run()
    assert [replica.state for replica in made.replicas] == [State.UP, State.UP, State.DOWN]
    assert statuses(log) == ["finished"] * 4


def test_random_failures_are_exponential_and_repeat_with_the_seed() -> None:
    def gone(seed: int) -> list[float]:
        requests = workload([float(second) for second in range(0, 3000, 50)], [3] * 60)
        made = cluster(requests, [RandomFailures("serve", 20.0, seed, "restart", 0.0, 10_000)])
        made.run()
        return [gone_s - up_s for _, up_s, gone_s in lives(made) if gone_s < inf]

    spans = gone(1)
    assert gone(1) == spans != gone(2)
    mean = sum(spans) / len(spans)
    assert len(spans) > 100
    assert mean == pytest.approx(20.0, rel=0.2)
    assert sum(span > 20.0 for span in spans) / len(spans) == pytest.approx(0.368, abs=0.12)  # exp(-1)


# Restarts.


@pytest.mark.parametrize("migrate", [False, True])
@pytest.mark.parametrize(("batch", "surge"), [(1, False), (2, False), (1, True)])
def test_a_rolling_restart_replaces_all_and_never_takes_more_than_it_may(
    batch: int, surge: bool, migrate: bool
) -> None:
    restart = RollingRestart("serve", 2.0, batch, surge=surge, migrate=migrate)
    least: list[int] = []

    class Count(Hook):
        def on_start(self) -> None:
            self.control.every(0.05, self.look, 0.02)

        def look(self) -> None:
            least.append(sum(replica.state is State.UP for replica in self.control.replicas))

    requests = workload([0.7 * index for index in range(60)], [4] * 60)
    made = cluster(requests, [restart, Count()], replicas=4, startup_s=1.0)
    log = made.run()
    assert statuses(log) == ["finished"] * 60
    assert [replica.state for replica in made.replicas] == [State.DOWN] * 4 + [State.UP] * 4
    assert min(least) == (4 if surge else 4 - batch)


# Throttles.


@BOTH
def test_a_throttle_admits_nobody_beyond_it_and_lets_those_who_run_finish(exact_steps: bool) -> None:
    """Two run when it comes at 1.5 s; the third waits until one only may join, at 4 s, for 3 s of
    service; the fourth after it."""
    made = cluster(
        workload([0.0, 0.0, 2.0, 2.0], [4, 4, 3, 3]), [Throttle("serve", 1.5, 1)], exact_steps=exact_steps
    )
    assert made.run().requests.finish_s.tolist() == [4.0, 4.0, 7.0, 10.0]


@BOTH
def test_a_throttle_ends(exact_steps: bool) -> None:
    made = cluster(workload([0.0, 1.0], [2, 2]), [Throttle("serve", 0.0, 0, 5.0)], exact_steps=exact_steps)
    assert made.run().requests.finish_s.tolist() == [7.0, 7.0]


# The account.


def test_a_run_in_which_nothing_happens_has_no_account() -> None:
    made = cluster(workload([0.0], [3]))
    log = made.run()
    assert operations_of(log, lives_of(made)) is None


def test_the_account_says_how_many_there_were() -> None:
    """One replica until 2 s, two until 10 s: 1.8 on average."""
    made = cluster(workload([0.0], [10]), [Schedule("serve", [(2.0, 2)])])
    log = made.run()
    done = operations_of(log, lives_of(made))
    assert done is not None
    assert (done.started, done.removed, done.failures, done.retries) == (1, 0, 0, 0)
    assert [(size.pool, size.least, size.most) for size in done.pools] == [("serve", 1, 2)]
    assert done.pools[0].mean == pytest.approx(1.8)


@BOTH
def test_time_ends_with_the_last_request(exact_steps: bool) -> None:
    """What was planned for later is not waited for: two until 2 s, one until 10 s."""
    hooks = [Schedule("serve", [(2.0, 1), (50.0, 3)]), FailureAt("serve", 70.0, 0, "resume")]
    made = cluster(workload([0.0], [10]), hooks, replicas=2, exact_steps=exact_steps)
    log = made.run()
    assert log.end_s == 10.0
    done = operations_of(log, lives_of(made))
    assert done is not None and (done.started, done.removed, done.failures) == (0, 1, 0)
    assert done.pools[0].mean == pytest.approx(1.2)
