"""``/metrics``: what the simulated engines would tell Prometheus, under vLLM's names.

Times are simulated seconds, whatever the time scale. Gauges and ``vllm:cache_config_info`` are by replica
(label ``engine``); counters and histograms are of the whole cluster, under ``engine="0"``. Names and bounds
are those of vLLM's ``v1/metrics/loggers.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tokensim.assemble.live import LiveCluster
from tokensim.engine.replica import Replica, State
from tokensim.metrics.recorder import FINISHED, TRUNCATED
from tokensim.serve.histogram import Histogram

if TYPE_CHECKING:
    from tokensim.serve.answers import Choice

TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
GAP_BOUNDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0),
)
LATENCY_BOUNDS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class Metrics:
    """Counts while the server runs; ``text`` is what a scrape gets."""

    def __init__(self, cluster: LiveCluster, model: str) -> None:
        self._cluster = cluster
        self._live = cluster.simulation
        self._model = model
        self._ttft = Histogram(TTFT_BOUNDS)
        self._gaps = Histogram(GAP_BOUNDS)
        self._per_token = Histogram(GAP_BOUNDS)
        self._latency = Histogram(LATENCY_BOUNDS)
        self._queue = Histogram(LATENCY_BOUNDS)
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._generated = 0
        self._ended: Counter[str] = Counter()
        self._registry: Any = None
        self.lateness: Histogram | None = None
        """Of the endpoint itself, in real seconds."""

    def first(self, choice: Choice, time_s: float) -> int:
        """The first token of ``choice`` is there; returns how much of its prompt was cached, in tokens."""
        intake = self._live.intake(choice.index)
        self._ttft.add(time_s - choice.arrival_s)
        self._queue.add(max(0.0, intake.scheduled_s - choice.arrival_s))
        self._prompt_tokens += choice.prompt_tokens
        self._cached_tokens += intake.cached_tokens
        self._generated += 1
        return intake.cached_tokens

    def gap(self, seconds: float) -> None:
        """One more token, so long after the one before. HOT PATH."""
        self._generated += 1
        self._gaps.add(seconds)

    def more(self) -> None:
        """One more token together with the one before."""
        self._generated += 1

    def ended(self, choice: Choice, status: int, time_s: float) -> None:
        """The request of ``choice`` has ended."""
        if status not in (FINISHED, TRUNCATED):
            self._ended["error"] += 1
            return
        self._ended[choice.finish or "length"] += 1
        self._latency.add(time_s - choice.arrival_s)
        if choice.taken > 1:
            self._per_token.add((choice.last_s - choice.first_s) / (choice.taken - 1))

    def left(self) -> None:
        """A client has gone before its answer was complete."""
        self._ended["abort"] += 1

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
        page: bytes = generate_latest(self._registry)
        return page

    def describe(self) -> Sequence[Any]:
        """Asked by the registry: names follow from ``collect``."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Asked by the registry: every family with its samples."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        whole = [self._model, "0"]
        labels = ("model_name", "engine")
        standing = [replica for replica in self._live.replicas if replica.state is not State.DOWN]
        gauges = (
            ("vllm:num_requests_running", "Requests in the batch.", _running),
            ("vllm:num_requests_waiting", "Requests that wait to be processed.", _waiting),
            ("vllm:kv_cache_usage_perc", "KV blocks in use, 1 is all.", _kv_use),
        )
        for name, told, read in gauges:
            gauge = GaugeMetricFamily(name, told, labels=labels)
            for replica in standing:
                gauge.add_metric([self._model, str(replica.index)], read(replica))
            yield gauge
        counters = (
            ("vllm:prompt_tokens", "Prompt tokens processed.", self._prompt_tokens),
            ("vllm:generation_tokens", "Tokens generated.", self._generated),
            ("vllm:num_preemptions", "Preemptions.", self._live.preemptions),
            ("vllm:prefix_cache_queries", "Tokens looked up in the prefix cache.", self._prompt_tokens),
            ("vllm:prefix_cache_hits", "Tokens found there.", self._cached_tokens),
        )
        for name, told, value in counters:
            counter = CounterMetricFamily(name, told, labels=labels)
            counter.add_metric(whole, value)
            yield counter
        success = CounterMetricFamily(
            "vllm:request_success", "Requests that have ended.", labels=(*labels, "finished_reason")
        )
        for reason in ("stop", "length", "abort", "error"):
            success.add_metric([*whole, reason], self._ended[reason])
        yield success
        histograms = (
            ("vllm:time_to_first_token_seconds", "Time to first token.", self._ttft),
            ("vllm:inter_token_latency_seconds", "Time between two tokens of a request.", self._gaps),
            ("vllm:time_per_output_token_seconds", "The same, under its older name.", self._gaps),
            ("vllm:request_time_per_output_token_seconds", "Mean of a request.", self._per_token),
            ("vllm:e2e_request_latency_seconds", "From arrival to the last token.", self._latency),
            ("vllm:request_queue_time_seconds", "From arrival to the first step.", self._queue),
        )
        for name, told, values in histograms:
            family = HistogramMetricFamily(name, told, labels=labels)
            family.add_metric(whole, buckets=values.cumulative(), sum_value=values.total)
            yield family
        yield self._cache_config(standing, GaugeMetricFamily)
        if self.lateness is not None:
            late = HistogramMetricFamily(
                "tokensim:write_lateness_seconds", "Real seconds by which tokens were written late."
            )
            late.add_metric([], buckets=self.lateness.cumulative(), sum_value=self.lateness.total)
            yield late

    def _cache_config(self, standing: Sequence[Replica], family: Any) -> Any:
        names = ("engine", "num_gpu_blocks", "block_size", "enable_prefix_caching", "gpu_memory_utilization")
        info = family("vllm:cache_config_info", "The KV cache of each engine.", labels=names)
        for replica in standing:
            engine = replica.pool.facts.engine
            info.add_metric(
                [
                    str(replica.index),
                    str(engine.num_gpu_blocks),
                    str(engine.block_size),
                    str(engine.enable_prefix_caching),
                    str(engine.gpu_memory_utilization),
                ],
                1.0,
            )
        return info


def _running(replica: Replica) -> float:
    return float(sum(len(rank.scheduler.running) for rank in replica.ranks))


def _waiting(replica: Replica) -> float:
    return float(
        replica.coming
        + sum(len(rank.scheduler.waiting) + len(rank.scheduler.loading) for rank in replica.ranks)
    )


def _kv_use(replica: Replica) -> float:
    pools = [rank.scheduler.pool for rank in replica.ranks]
    return 1.0 - sum(pool.free for pool in pools) / max(1, sum(pool.num_blocks for pool in pools))
