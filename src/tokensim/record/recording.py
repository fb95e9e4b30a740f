"""What a recording is: the load, what became of each request, and what the server said meanwhile."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tokensim.metrics.latency import Distribution, distribution
from tokensim.record.client import Outcome, Status
from tokensim.record.load import Driven
from tokensim.record.probe import ServerFacts
from tokensim.record.scrape import ServerSeries
from tokensim.record.trial import Manner
from tokensim.workload.base import Floats, Workload


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of ``tokensim run``, measured: latencies in seconds, rates a second of the makespan (first
    send to last token). ITL weighs every gap; a gap is that between chunks, shared among the tokens of the
    later one."""

    ttft_s: Distribution
    tpot_s: Distribution
    itl_s: Distribution
    e2e_s: Distribution
    connect_s: Distribution
    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    makespan_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """One pass over ``workload``; times count from its start. ``url`` is without key or password."""

    url: str
    workload: Workload
    facts: ServerFacts
    manner: Manner
    driven: Driven
    series: ServerSeries = field(default_factory=ServerSeries)

    @property
    def usable(self) -> list[Outcome]:
        """The requests that a case can hold, in order of the workload."""
        return [outcome for outcome in self.driven.outcomes if outcome.usable]

    @property
    def complete(self) -> bool:
        """Whether nothing failed, was cancelled or stopped."""
        return self.driven.complete and len(self.usable) == len(self.workload)

    def statuses(self) -> dict[Status, int]:
        """How many requests ended how."""
        return dict(Counter(outcome.status for outcome in self.driven.outcomes))

    def input_tokens(self, outcome: Outcome) -> int:
        """Tokens of its prompt: what the server says if that can be, else what was planned."""
        planned = int(self.workload.input_tokens[outcome.index])
        plausible = 0 < outcome.input_tokens <= 50 * planned + 10_000
        return outcome.input_tokens if plausible else planned

    def figures(self) -> Figures:
        """The figures of the usable requests."""
        good = self.usable
        sent, first, last, outputs, inputs = (np.zeros(len(good)) for _ in range(5))
        gaps: list[Floats] = []
        for row, outcome in enumerate(good):
            times = np.asarray(outcome.times_s)
            sent[row], first[row], last[row] = outcome.sent_s, times[0], times[-1]
            outputs[row], inputs[row] = outcome.output_tokens, self.input_tokens(outcome)
            tokens = np.asarray(outcome.counts, dtype=np.int64)[1:]
            some = tokens > 0
            gaps.append(np.repeat(np.diff(times)[some] / tokens[some], tokens[some]))
        steps = outputs - 1
        tpot = np.where(steps > 0, (last - first) / np.maximum(steps, 1), np.nan)
        makespan = float(last.max() - sent.min()) if len(good) else 0.0
        rate = 1 / makespan if makespan > 0 else 0.0
        fresh = np.array([outcome.connected_s for outcome in good if outcome.connected_s > 0])
        return Figures(
            ttft_s=distribution(first - sent),
            tpot_s=distribution(tpot),
            itl_s=distribution(np.concatenate(gaps) if gaps else np.empty(0)),
            e2e_s=distribution(last - sent),
            connect_s=distribution(fresh),
            requests_per_s=len(good) * rate,
            input_tokens_per_s=float(inputs.sum()) * rate,
            output_tokens_per_s=float(outputs.sum()) * rate,
            makespan_s=makespan,
        )

    def notes(self) -> list[str]:
        """What a reader of the case should know."""
        good, driven = self.usable, self.driven
        notes = list(self.manner.notes)
        if not driven.complete:
            notes.append("PARTIAL: the recording was stopped before its end")
        for status, number in sorted(self.statuses().items()):
            if status != "ok":
                example = next(o.message for o in driven.outcomes if o.status == status)
                notes.append(
                    f"{number:,} of {len(self.workload):,} requests: {status} ({example or 'no answer yet'})"
                )
        if driven.cancelled:
            notes.append(f"{len(driven.cancelled):,} requests were not sent: what they waited for failed")
        if good and (failed := len(driven.outcomes) - len(good)):
            notes.append(
                f"the replay leaves out the {failed:,} that failed, which the server may have worked on"
            )
        again = sum(outcome.attempts > 1 for outcome in driven.outcomes)
        if again:
            notes.append(
                f"{again:,} requests were sent more than once: the load is not the planned one; what was"
                " answered counts, and arrives in a replay, from its last attempt"
            )
        if good and self.manner.usage and not all(outcome.counts_known for outcome in good):
            notes.append(
                "some chunks hold several tokens, and the server does not say which: they are spread evenly"
            )
        if self.series.missed and not len(self.series.time_s):
            notes.append(
                f"no known metrics at {self.series.path}, polled {self.series.missed:,} times: the case does"
                " not have what the server ran and held over time"
            )
        lied = sum(self.input_tokens(outcome) != outcome.input_tokens >= 0 for outcome in good)
        if lied:
            notes.append(
                f"{lied:,} answers told an impossible length of the prompt: the planned one is taken"
            )
        off = self.prompt_ratio()
        if off is not None and abs(off - 1) > 0.02:
            notes.append(
                f"prompts have {off:.3f} times the planned tokens; the case has what the server counted"
            )
        warning = driven.trueness.warning(self.figures().ttft_s.p50 if good else None)
        if warning:
            notes.append(warning)
        return notes

    def prompt_ratio(self) -> float | None:
        """Prompt tokens as the server counted them over those planned; None where it does not count."""
        counted = [o for o in self.usable if o.input_tokens > 0]
        planned = sum(int(self.workload.input_tokens[o.index]) for o in counted)
        return sum(self.input_tokens(o) for o in counted) / planned if planned else None
