"""Which measured tables there are: in the installed package, in a file or a folder, of any format.

A source is ``aiconfigurator`` (the installed package) or a path; a path's format is recognised by what is in
it: files of our own, aiconfigurator-core's layout, LLMServingSim's, Vidur's. What a source holds is a list of
``Entry``; an entry is read when it is wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokensim.cost.base import Setting
from tokensim.cost.tables import aiconfigurator, llmservingsim, native, vidur
from tokensim.cost.tables.base import Profile
from tokensim.cost.tables.files import normalised
from tokensim.cost.tables.versions import by_nearness
from tokensim.errors import InputError
from tokensim.hardware import Device, catalog_names, load_device

INSTALLED = "aiconfigurator"
NATIVE = "tokensim"
FORMATS = (NATIVE, "aiconfigurator", "llmservingsim", "vidur")

_ENGINES = {"tensorrtllm": "trtllm"}  # other names of engines, normalised


@dataclass(frozen=True, slots=True)
class Entry:
    """One profile that a source holds. ``device`` is the source's own name for it.

    ``versions`` are the measured ones, newest first. ``model`` and ``tensor`` are set where the profile is
    of one model (under one tensor-parallel degree), ``dtype`` where it is of one format of weights.
    """

    format: str
    device: str
    engine: str
    versions: tuple[str, ...]
    origin: Path | llmservingsim.Found | vidur.Found
    model: str | None = None
    dtype: str | None = None
    tensor: int | None = None

    def read(
        self, version: str = "", kinds: Collection[str] | None = None, device: str | None = None
    ) -> Profile:
        """The tables, of the wanted ``kinds`` (default: all) and the versions nearest to ``version``.

        ``device`` is the name for the profile (default: the source's own). Raises ``InputError``.
        """
        if isinstance(self.origin, llmservingsim.Found):
            return llmservingsim.read_llmservingsim(self.origin, kinds=kinds, device=device)
        if isinstance(self.origin, vidur.Found):
            return vidur.read_vidur(self.origin, kinds=kinds, device=device)
        if self.format == NATIVE:
            profile = native.read_profile(self.origin, kinds)
            return replace(profile, device=device) if device else profile
        return aiconfigurator.read_aiconfigurator(
            self.device, self.engine, version, kinds=kinds, root=self.origin, device=device
        )

    def __str__(self) -> str:
        what = [self.device, self.engine, self.model, self.dtype, self.tensor and f"TP{self.tensor}"]
        return " ".join(str(part) for part in what if part)


def list_tables(source: str, base_dir: Path = Path(), where: str | None = None) -> list[Entry]:
    """What ``source`` holds: ``aiconfigurator``, or a path (relative to ``base_dir``) to a file or folder.

    Raises ``InputError`` at ``where`` if the package is not installed, or nothing is there or known.
    """
    if source == INSTALLED:
        return _of_package(aiconfigurator.data_folder())
    path = base_dir / Path(source).expanduser()
    if path.is_file():
        return [_of_file(path)]
    if not path.is_dir():
        raise InputError(
            f"no such file or folder of measured tables: {path}",
            where=where,
            hint=f"give a path, or '{INSTALLED}' for the tables of the extra `measured`",
        )
    entries = [_of_file(file) for file in sorted(path.glob("*.parquet")) if native.is_native(file)]
    folder = aiconfigurator.find_data(path)
    if folder is not None:
        entries += _of_package(folder)
    for found in llmservingsim.find_llmservingsim(path):
        entries.append(
            Entry(
                "llmservingsim",
                found.hardware,
                "vllm",
                (found.version,) if found.version else (),
                found,
                model=found.model,
                dtype=found.dtype,
                tensor=found.tensor,
            )
        )
    for profile in vidur.find_vidur(path):
        entries.append(
            Entry("vidur", profile.device, vidur.ENGINE, (), profile, model=profile.model, dtype=vidur.DTYPE)
        )
    if not entries:
        raise InputError(
            f"no measured tables in {path}",
            where=where,
            hint="known: parquet files of `tokensim profiles convert`, and folders of aiconfigurator-core, "
            "LLMServingSim (<hardware>/<model>/<dtype>/tp<N>) and Vidur (compute/<device>/<model>)",
        )
    return entries


def open_tables(
    source: str,
    setting: Setting,
    base_dir: Path = Path(),
    where: str = "performance.operators",
    kinds: Collection[str] | None = None,
) -> list[Profile]:
    """The profiles of ``source`` (as in ``list_tables``) that are of the setting's device, engine and model.

    Profiles of one model count only for that model and tensor-parallel degree; files of our own become one
    profile. Where the engine was not measured, another one's times are taken, and a note says so; of several
    versions, the nearest. ``kinds`` restricts what is read. Raises ``InputError`` that lists what is there if
    nothing fits.
    """
    entries = list_tables(source, base_dir, where)
    device = setting.device
    fitting = [entry for entry in entries if is_device(entry, device)]
    if not fitting:
        raise _nothing(f"no measured operator times of {device.id} in {source}", entries, where)
    of_model = [entry for entry in fitting if _is_model(entry, setting)]
    if not of_model:
        ranks = f" on {setting.tensor} tensor-parallel ranks" if setting.tensor > 1 else ""
        raise _nothing(
            f"no measured operator times of {setting.model}{ranks} on {device.id} in {source}", fitting, where
        )
    engine = _ENGINES.get(normalised(setting.engine), setting.engine)
    same = [entry for entry in of_model if entry.engine == engine]
    chosen, note = same, None
    if not same:
        chosen = [entry for entry in of_model if entry.engine == of_model[0].engine]
        note = f"times of {chosen[0].engine}: {setting.engine} was not measured"
    chosen = _nearest(chosen, setting.version)
    own = [entry.read(setting.version, kinds, device.id) for entry in chosen if entry.format == NATIVE]
    profiles = [native.merged(own)] if own else []  # one of each dtype: together what was converted
    profiles += [entry.read(setting.version, kinds, device.id) for entry in chosen if entry.format != NATIVE]
    if note is None:
        return profiles
    return [replace(profile, notes=(note, *profile.notes)) for profile in profiles]


def narrowed(
    entries: Sequence[Entry], device: str | None = None, engine: str | None = None, model: str | None = None
) -> list[Entry]:
    """The entries of a device (a catalog id, another name for one, or the source's own), engine and model.

    None takes all; entries of no model are left out if one is asked for. Raises ``InputError`` that lists
    what is there if nothing is left.
    """
    left = list(entries)
    for option, wanted in (("device", device), ("engine", engine), ("model", model)):
        if wanted is None:
            continue
        fitting = [entry for entry in left if _is_wanted(entry, option, wanted)]
        if not fitting:
            raise _nothing(f"nothing of the {option} '{wanted}'", left, f"--{option}")
        left = fitting
    return left


def _is_wanted(entry: Entry, option: str, wanted: str) -> bool:
    name = normalised(wanted)
    if option == "engine":
        return entry.engine == _ENGINES.get(name, wanted)
    if option == "model":
        known = entry.model or ""
        return name in (normalised(known), normalised(known.split("/")[-1]))
    if name == normalised(entry.device):
        return True
    try:
        return is_device(entry, load_device(wanted, "--device"))
    except InputError:
        return False  # no device of ours: then a name that only the source knows


def is_device(entry: Entry, device: Device) -> bool:
    """Whether ``entry`` was measured on ``device``: by the catalog's names for it, else by its own."""
    name = normalised(entry.device)
    if entry.format in device.profiles:
        return name == normalised(device.profiles[entry.format])
    return name == normalised(device.id)


def device_id(entry: Entry) -> str | None:
    """The catalog id of the device that ``entry`` was measured on; None if the catalog does not know it."""
    return next((name for name in catalog_names() if is_device(entry, load_device(name))), None)


def _of_file(path: Path) -> Entry:
    facts = native.facts_of(path)
    versions = (facts["version"],) if facts.get("version") else ()
    return Entry(NATIVE, facts["device"], facts["engine"], versions, path, dtype=facts["dtype"])


def _of_package(folder: Path) -> list[Entry]:
    return [
        Entry(
            "aiconfigurator",
            system,
            engine,
            tuple(aiconfigurator.versions(system, engine, folder)["gemm"]),
            folder,
        )
        for system, engines in aiconfigurator.systems(folder).items()
        for engine in engines
    ]


def _is_model(entry: Entry, setting: Setting) -> bool:
    """Whether ``entry`` says something about the setting's model; entries of no model do about all."""
    if entry.tensor is not None and entry.tensor != setting.tensor:
        return False
    if entry.model is None:
        return True
    names = [normalised(name) for name in (entry.model, setting.model)]
    last = [normalised(name.rstrip("/").split("/")[-1]) for name in (entry.model, setting.model)]
    return names[0] == names[1] or last[0] == last[1]


def _nearest(entries: Sequence[Entry], version: str) -> list[Entry]:
    """The entries of the version nearest to the wanted one; those without a version stay."""
    single = {entry.versions[0] for entry in entries if entry.format != "aiconfigurator" and entry.versions}
    if len(single) < 2:
        return list(entries)
    best = by_nearness(version, single)[0]
    return [entry for entry in entries if not entry.versions or best in entry.versions]


def _nothing(message: str, entries: Sequence[Entry], where: str) -> InputError:
    there = list(dict.fromkeys(str(entry) for entry in entries))
    shown = ", ".join(there[:20]) + (f", … ({len(there)} in all)" if len(there) > 20 else "")
    return InputError(message, where=where, hint=f"there are: {shown}")
