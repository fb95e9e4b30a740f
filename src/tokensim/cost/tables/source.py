"""Measured tables as a source of operator times; opened when it is asked, and no more than that takes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

from tokensim.cost.base import Setting, Times
from tokensim.cost.tables.base import Profile
from tokensim.cost.tables.find import open_tables
from tokensim.cost.tables.measured import measured_cost
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

ATTENTION = ("prefill_attention", "decode_attention", "mixed_attention", "skewed_attention")
GEMM = ("gemm", "gemm_elsewhere")
INSTALLED = "aiconfigurator"

_opened: dict[tuple[Hashable, ...], list[Profile]] = {}

LATENT = ("mla_prefill", "mla_decode", "mla_bmm", *GEMM)


class TableSource:
    """The tables that ``spec`` names (see ``open_tables``) for ``setting``; an ``OperatorCost``."""

    def __init__(self, spec: str, setting: Setting, base_dir: Path, where: str) -> None:
        self.name = spec
        self.notes: tuple[str, ...] = ()  # what the user of a run should know, once it was asked
        self._open = (spec, setting, base_dir, where)

    def price(self, operators: Sequence[Operator]) -> Times:
        """See ``OperatorCost.price``; raises ``InputError`` for tables that are absent or bad."""
        spec, setting, base_dir, where = self._open
        kinds = kinds_for(operators)
        if spec == INSTALLED:  # its files do not change: a study opens them once
            device = setting.device
            key = (device.id, tuple(device.profiles.items()), setting.engine, setting.version, *kinds)
            profiles = _opened.get(key) or open_tables(spec, setting, base_dir, where, kinds=kinds)
            _opened[key] = profiles
        else:
            profiles = open_tables(spec, setting, base_dir, where, kinds=kinds)
        others = sorted({profile.engine for profile in profiles} - {setting.engine, ""})
        if others:
            self.notes = (
                f"operator times on {setting.device.id} are those of {', '.join(others)}:"
                f" {setting.engine} was not measured",
            )
        return measured_cost(profiles, setting).price(operators)


def kinds_for(operators: Sequence[Operator]) -> list[str]:
    """The kinds of tables in which the times of ``operators`` may stand."""
    kinds: dict[str, None] = {"layer": None}
    for op in operators:
        match op:
            case Gemm():
                kinds.update(dict.fromkeys(GEMM))
            case Experts():
                kinds["experts"] = None
            case Collective():
                kinds["collective"] = None
            case Elementwise():
                kinds["elementwise"] = None
            case Attention():
                kinds.update(dict.fromkeys(ATTENTION if op.prefill_dims is None else LATENT))
    return list(kinds)
