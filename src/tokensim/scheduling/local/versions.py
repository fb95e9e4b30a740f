"""Rules of vLLM's V1 scheduler that changed between versions: which rule starts where.

Checked against decisions recorded from vLLM 0.19.0, 0.23.0 and 0.33.0. Versions in between that are not known
to follow one of them are refused (``tokensim.scenario.versions``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tokensim.scenario.versions import Version, parse_version


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs by version.

    ``unhashed_blocks_first``: freed blocks without a hash go to the front of the free queue, not to its end.
    ``lone_request_uncapped``: ``long_prefill_token_threshold`` does not bind the only request in the system.
    ``self_preemption_goes_on``: under the priority policy, after a request has preempted itself, the next
    ones are still served. ``index_moves_only_for_served``: a victim that stood earlier but was not served in
    this step makes the loop pass over one. ``pause_before_idle``: after an empty step the engine sleeps 1 ms
    also when only a finish is left to announce.

    With several batches in flight: ``recalls_output``: what a preempted request has in flight is taken off
    its account at once, and it waits until that has come back. ``registers_all_output``: tokens that are
    known only after a step enter the prefix cache then in every mode, not with asynchronous scheduling alone.
    ``decodes_once_a_round``: with asynchronous scheduling a request decodes in every pp-th step only.
    ``pads_admissions``: with speculation an admission of one token is filled up to the size of a decode.
    ``queues_on_empty``: after an empty step the engine schedules another one before it waits for a batch.
    ``batches_beyond_stages``: what the queue of batches holds besides one a stage, with asynchronous
    scheduling.
    """

    unhashed_blocks_first: bool
    lone_request_uncapped: bool
    self_preemption_goes_on: bool
    index_moves_only_for_served: bool
    pause_before_idle: bool
    recalls_output: bool
    registers_all_output: bool
    decodes_once_a_round: bool
    pads_admissions: bool
    queues_on_empty: bool
    batches_beyond_stages: int


_V0_19 = Rules(
    unhashed_blocks_first=False,
    lone_request_uncapped=False,
    self_preemption_goes_on=False,
    index_moves_only_for_served=True,
    pause_before_idle=False,
    recalls_output=False,
    registers_all_output=False,
    decodes_once_a_round=False,
    pads_admissions=False,
    queues_on_empty=False,
    batches_beyond_stages=0,
)
_V0_23 = replace(
    _V0_19,
    pause_before_idle=True,
    decodes_once_a_round=True,
    queues_on_empty=True,
    batches_beyond_stages=1,
)
_V0_33 = Rules(
    unhashed_blocks_first=True,
    lone_request_uncapped=True,
    self_preemption_goes_on=True,
    index_moves_only_for_served=False,
    pause_before_idle=True,
    recalls_output=True,
    registers_all_output=True,
    decodes_once_a_round=True,
    pads_admissions=True,
    queues_on_empty=True,
    batches_beyond_stages=1,
)

STARTS: dict[Version, Rules] = {
    Version(0, 19, 0): _V0_19,
    Version(0, 23, 0): _V0_23,
    Version(0, 33, 0): _V0_33,
}
"""Version → the rules from it on."""


def rules_of(version: str) -> Rules:
    """The rules that hold in ``version``; raises ``ValueError`` for a version that is not modelled."""
    number = parse_version(version)
    return STARTS[max(start for start in STARTS if start <= number)]


def queue_size(rules: Rules, stages: int, *, asynchronous: bool, v2_model_runner: bool = True) -> int:
    """How many batches the engine keeps in flight: synchronous one a stage, asynchronous one more (with a
    pipeline, only in later versions with the second model runner)."""
    if asynchronous and stages == 1:
        return 2
    return stages + (rules.batches_beyond_stages if asynchronous and v2_model_runner else 0)
