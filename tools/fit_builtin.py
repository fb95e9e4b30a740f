"""Fits the shipped model ``builtin`` to the measured tables of aiconfigurator-core: writes its coefficients.

    python tools/fit_builtin.py [--tables FOLDER] [--output FILE] [--device ID ...] [--jobs N]

For each device, kind of operator and dtype: nonlinear least squares on the logarithm of the time, with a loss
that outliers do not bend (soft L1). Whole shapes are held out, not rows: of four parts of the shapes (n, k),
(heads, head size), (experts, widths, plan), each is predicted by a fit to the other three; the errors in the
file are of these predictions. The coefficients are of a last fit to all shapes. The same tables give the same
bytes. Needs scipy; takes some five minutes on two cores.

The table of errors in docs/builtin-model.md is written too, between its two markers.
"""

from __future__ import annotations

import argparse
import dataclasses
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from builtin_document import document, error_table, with_table
from builtin_measurements import Rows, devices, measurements
from builtin_ranges import Array, Spec
from scipy.optimize import least_squares

from tokensim.cost.builtin.forms import FORMS
from tokensim.cost.tables.aiconfigurator import data_folder
from tokensim.hardware.base import Device

OUTPUT = Path(__file__).resolve().parent.parent / "src/tokensim/cost/builtin/coefficients.yaml"

DOCS = OUTPUT.parents[4] / "docs/builtin-model.md"

PARTS = 4
"""Parts of the shapes that are held out in turn."""

SAMPLE = 6000
"""Rows of a fit, at most, drawn at random (seeded)."""

LOSS_SCALE = {"GemmForm": 0.1}
"""Relative error from which on the loss of a form grows linearly (others: ``USUAL_LOSS_SCALE``). A wide one
keeps sums right, a narrow one medians; that of GEMMs is wide, since a step sums many."""

USUAL_LOSS_SCALE = 0.05


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=Path, help="the wheel, unpacked (default: the installed package)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--device", action="append", help="only this catalog id (may be repeated)")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    chosen = [
        (device, system, options.tables)
        for device, system in devices(options.tables)
        if options.device is None or device.id in options.device
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(fit_device, *zip(*chosen, strict=True)))
    release = data_folder(options.tables).parents[2]
    text = document(results, version_of(release))
    options.output.write_text(text, encoding="utf-8")
    if options.output == OUTPUT:
        page = DOCS.read_text(encoding="utf-8")
        DOCS.write_text(with_table(page, error_table(yaml.safe_load(text))), encoding="utf-8")


def version_of(folder: Path) -> str:
    """The version of aiconfigurator-core whose package lies in ``folder``."""
    found = sorted(folder.glob("aiconfigurator_core-*.dist-info"))
    return found[0].name.split("-")[1].removesuffix(".dist") if found else "of unknown version"


def fit_device(device: Device, system: str, tables: Path | None) -> tuple[Device, dict[str, dict[str, Any]]]:
    """All fits of one device: by kind, then dtype (or number of ranks)."""
    fits: dict[str, dict[str, Any]] = {}
    for kind, key, rows in measurements(device, system, tables):
        if len(set(rows.shape)) >= PARTS:
            fits.setdefault(kind, {})[key] = fit = fitted(kind, rows)
            print(f"{device.id} {kind} {key}: {fit['errors']} {rows.source}", flush=True)
    return device, fits


# The fit of one kind and dtype


def fitted(kind: str, rows: Rows) -> dict[str, Any]:
    """The coefficients of a fit to all rows, and its errors, those on held-out shapes first."""
    spec = Spec(FORMS[kind], rows.head_sizes)
    everything = np.arange(len(rows.seconds))
    best = solve(spec, rows, everything, spec.starts())
    form = spec.form(best)
    inside = np.abs(rows.predict(form, everything) / rows.seconds - 1.0)
    part = parts(rows.shape)
    outside = np.empty(len(everything))
    for one in range(PARTS):
        guess = spec.form(solve(spec, rows, everything[part != one], spec.starts()[:1], SAMPLE // 2))
        held = everything[part == one]
        outside[held] = np.abs(rows.predict(guess, held) / rows.seconds[held] - 1.0)
    return {
        "errors": [
            round(float(error), 3)
            for error in (np.median(outside), np.quantile(outside, 0.9), np.median(inside))
        ],
        "rows": len(everything),
        "source": rows.source,
        "values": [getattr(form, field.name) for field in dataclasses.fields(form)],
    }


def parts(shapes: Sequence[str]) -> npt.NDArray[np.int64]:
    """The part that each row's shape is in: parts of the same size, in an order that shapes do not show."""
    ordered = sorted(set(shapes), key=lambda shape: (zlib.crc32(shape.encode()), shape))
    part = {shape: i % PARTS for i, shape in enumerate(ordered)}
    return np.array([part[shape] for shape in shapes])


def solve(
    spec: Spec, rows: Rows, some: npt.NDArray[np.int64], starts: Sequence[Array], sample: int = SAMPLE
) -> Array:
    """The coefficients that predict ``some`` of the rows best, from the best of ``starts``."""
    if len(some) > sample:
        some = np.sort(np.random.default_rng(0).choice(some, sample, replace=False))
    target = np.log(rows.seconds[some])

    def residual(vector: Array) -> Array:
        return np.asarray(np.log(rows.predict(spec.form(vector, None), some)) - target)

    solutions = [
        least_squares(
            residual,
            start,
            bounds=spec.bounds(),
            loss="soft_l1",
            f_scale=LOSS_SCALE.get(spec.type.__name__, USUAL_LOSS_SCALE),
            ftol=1e-6,
            xtol=1e-6,
            max_nfev=100,
        )
        for start in starts
    ]
    return np.asarray(min(solutions, key=lambda solution: float(solution.cost)).x)


if __name__ == "__main__":
    main()
