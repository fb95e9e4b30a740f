"""A study: a scenario, and which of its keys take which values. A file, or a mapping of the same form.

name: How long may a chunk be?
scenario: ../examples/quickstart.yaml     # or the scenario itself
parameters:
  engine.max_num_batched_tokens: [512, 2048, 8192]
  workload.arrivals.rate: {from: 4, to: 16, steps: 4}
method: grid        # every combination; zip: the first values, the second, …; random: `samples` of them
seeds: 3            # runs of each point, with the scenario's seed and those that follow it
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from tokensim.errors import InputError
from tokensim.explore.parameters import Choice, Parameter, read_parameter
from tokensim.explore.task import Task
from tokensim.scenario import yaml_text
from tokensim.scenario.loading import Document, absolute_paths, read_document, read_mapping
from tokensim.scenario.overrides import parse_path
from tokensim.scenario.problems import from_validation, refuse
from tokensim.scenario.section import Count, CountOrZero, Name, Section

STUDY_FILE = "study.yaml"
"""What a study is kept as beside its results."""


class StudyFile(Section):
    """The keys of a study file."""

    name: str = ""
    """What the study is about, in a few words."""
    description: str = ""
    """What it asks, and how to read its answer."""
    scenario: Name | dict[str, Any]
    """A scenario file, from the study's folder, or a scenario."""
    parameters: dict[Name, Any] = Field(min_length=1)
    """What is varied: a path in the scenario, or a name of your own, to its values."""
    method: Literal["grid", "zip", "random"] = "grid"
    """How values are combined."""
    samples: Count | None = None
    """How many points ``method: random`` draws."""
    seed: CountOrZero = 0
    """Of ``method: random``."""
    seeds: Count = 1
    """Runs of each point, with seeds that follow each other."""
    goals: list[dict[Literal["minimize", "maximize"], Name]] = Field(default_factory=list)
    """What is wanted, which `tokensim optimize` searches for: figures of a run, cost, energy, …"""
    subject_to: dict[Name, Any] = Field(default_factory=dict)
    """What every answer keeps to: `slo: true` (the default where there is an SLO), a figure's min or max."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a study: its number, a choice for each parameter, and its seed."""

    index: int
    choices: tuple[Choice, ...]
    seed: int


@dataclass(frozen=True)
class Study:
    """What to run. ``base`` is the scenario before any parameter is set."""

    file: StudyFile
    base: Document
    parameters: tuple[Parameter, ...]
    folder: Path

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Study:
        """Read a study file; ``overrides`` (``engine.max_num_seqs=512``) go on top of its scenario. Raises
        ``InputError``."""
        data, origins = read_mapping(path, "study", "studies/chunk-size.yaml")
        return cls.from_mapping(data, Path(path).absolute().parent, str(path), origins, overrides)

    @classmethod
    def from_mapping(
        cls,
        data: Mapping[str, Any],
        folder: Path | None = None,
        where: str = "study",
        origins: Mapping[yaml_text.Path, str] | None = None,
        overrides: tuple[str, ...] = (),
    ) -> Study:
        """The study that ``data`` describes; paths in it count from ``folder``. Raises ``InputError``."""
        folder = Path.cwd() if folder is None else folder
        if "workload" in data and "scenario" not in data:
            raise InputError(
                "is a scenario, not a study",
                where=where,
                hint="a study has parameters: what is varied, and scenario: this file",
            )
        try:
            file = StudyFile.model_validate(dict(data))
        except ValidationError as error:
            raise refuse(from_validation(error, StudyFile, data), where, origins or {}) from None
        if isinstance(file.scenario, str):
            base = read_document(folder / Path(file.scenario).expanduser())
        else:
            base = Document(absolute_paths(dict(file.scenario), folder), f"{where}: scenario")
        for override in overrides:
            base.override(override)
        parameters = tuple(
            read_parameter(name, given, f"{where}: parameters.{name}")
            for name, given in file.parameters.items()
        )
        study = cls(file, base, parameters, folder)
        study._check(where)
        return study

    def _check(self, where: str) -> None:
        """Refuse what no point could be made of."""
        file = self.file
        if file.subject_to and not file.goals:
            raise InputError(
                "nothing to be subject to it", where=f"{where}: subject_to", hint="goals: [{minimize: cost}]"
            )
        if (file.samples is None) == (file.method == "random"):
            hint = "samples: 100" if file.samples is None else "leave it out, or method: random"
            raise InputError(f"method {file.method}", where=f"{where}: samples", hint=hint)
        if file.method != "random" and not file.goals:
            self.check_steps(where)
        if file.method == "zip" and len({len(p.choices) for p in self.parameters}) > 1:
            lengths = ", ".join(f"{p.name}: {len(p.choices)}" for p in self.parameters)
            raise InputError(
                f"parameters of different lengths ({lengths})",
                where=f"{where}: method",
                hint="zip takes the first of each, then the second of each, …",
            )
        for parameter in self.parameters:
            for choice in parameter.choices or (parameter.lowest(),):
                self._with((choice,), f"{where}: parameters.{parameter.name}")

    def check_steps(self, where: str = "study") -> None:
        """Refuse ranges without steps: they have no points that could be counted (a search needs none)."""
        for parameter in self.parameters:
            if not parameter.choices:
                raise InputError(
                    "a range without steps",
                    where=f"{where}: parameters.{parameter.name}",
                    hint="give steps, or method: random",
                )

    def to_dict(self) -> dict[str, Any]:
        """The study as its file has it, with the scenario inside, so that it needs no other file."""
        return {**self.file.model_dump(mode="json"), "scenario": self.base.data}

    @property
    def configurations(self) -> int:
        """Different settings of the parameters."""
        if self.file.method == "random":
            assert self.file.samples is not None
            return self.file.samples
        lengths = [len(parameter.choices) for parameter in self.parameters]
        return lengths[0] if self.file.method == "zip" else prod(lengths)

    def __len__(self) -> int:
        """Points: runs in all."""
        return self.configurations * self.file.seeds

    def __iter__(self) -> Iterator[Point]:
        """The points in order, made one by one: seeds fastest, then the last parameter."""
        return (self.point(index) for index in range(len(self)))

    def point(self, index: int) -> Point:
        """Point number ``index``."""
        which, repeat = divmod(index, self.file.seeds)
        return Point(index, self._choices(which), self._base_seed + repeat)

    def task(self, point: Point) -> Task:
        """The run of ``point``."""
        data = self._with(point.choices, self.base.where)
        data["seed"] = point.seed
        return Task(point.index, absolute_paths(data, self.folder))

    def tasks(self, choices: tuple[Choice, ...], first: int) -> list[Task]:
        """The runs of ``choices``, one for each seed, with the keys ``first``, ``first`` + 1, …"""
        return [
            self.task(Point(first + repeat, choices, self._base_seed + repeat))
            for repeat in range(self.file.seeds)
        ]

    def _choices(self, which: int) -> tuple[Choice, ...]:
        if self.file.method == "random":
            random = np.random.default_rng([self.file.seed, which])
            return tuple(parameter.draw(random) for parameter in self.parameters)
        if self.file.method == "zip":
            return tuple(parameter.choices[which] for parameter in self.parameters)
        choices = []
        for parameter in reversed(self.parameters):
            which, at = divmod(which, len(parameter.choices))
            choices.append(parameter.choices[at])
        return tuple(reversed(choices))

    @cached_property
    def _base_seed(self) -> int:
        seed = self.base.data.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    def _with(self, choices: tuple[Choice, ...], where: str) -> dict[str, Any]:
        """The scenario with ``choices``."""
        document = Document(copy.deepcopy(self.base.data), where)
        for choice in choices:
            for path, value in choice.settings.items():
                document.set(parse_path(path, where), copy.deepcopy(value), where)
        return document.data


def digest(task: Task) -> str:
    """What tells one run from every other, whatever its number in a study."""
    from tokensim import __version__

    text = json.dumps([__version__, task.data], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
