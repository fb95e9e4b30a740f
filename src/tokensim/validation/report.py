"""The page of ``tokensim validate --html``: errors, distributions and scatters of every case, and what a
recorded one has over time, in one file.

It needs no network and no script, follows the light or dark of the reader's system, and fits a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from tokensim.report.numbers import NOTHING, count, duration
from tokensim.validation.errors import METRICS, STATISTICS, CaseErrors, series
from tokensim.validation.plots import distribution_plot, scatter_plot, time_plot
from tokensim.validation.replay import Replay
from tokensim.validation.table import FAIR, GOOD, LABELS, Refused

STYLE = """ :root{color-scheme:light
dark;--ink:#1c2330;--soft:#5d6778;--line:#d9dee7;--paper:#fff;--card:#f7f8fa;
--measured:#1f5fbf;--simulated:#c2410c;--good:#15803d;--fair:#a16207;--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa4b5;--line:#343c4a;--paper:#12161d;
--card:#1a2029;--measured:#6ea8fe;--simulated:#fb923c;--good:#4ade80;--fair:#facc15;--bad:#f87171}}
*{box-sizing:border-box}body{margin:0 auto;padding:1rem;max-width:76rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif} h1{font-size:1.4rem;margin:.5rem
0}h2{font-size:1.1rem;margin:2rem 0 .2rem; overflow-wrap:anywhere}h3{font-size:1rem;margin:1.2rem 0
.4rem}p{margin:.2rem 0;color:var(--soft)}.wide{overflow-x:auto} table{border-collapse:collapse;margin:.6rem
0;font-variant-numeric:tabular-nums;white-space:nowrap} th,td{padding:.2rem
.7rem;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;padding-left:0}th{font-weight:600;color:var(--soft)}
.good{color:var(--good)}.fair{color:var(--fair)}.bad{color:var(--bad)}
.plots{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))}
figure{margin:0;padding:.5rem;background:var(--card);border-radius:8px}svg{display:block;width:100%;height:auto}
svg text{font-size:11px;fill:var(--soft)}svg .title{font-size:13px;font-weight:600;fill:var(--ink)}
.axis,.grid,.line,.dots,.diagonal{fill:none}.axis{stroke:var(--soft)}.grid{stroke:var(--line);stroke-width:.7}
.line{stroke-width:2}.line.measured{stroke:var(--measured)}
.line.simulated{stroke:var(--simulated);stroke-dasharray:5 3}
.dots{stroke:var(--simulated);stroke-width:3;stroke-linecap:round;stroke-opacity:.45}
.diagonal{stroke:var(--measured);stroke-width:1.2} .key i{display:inline-block;width:1.6rem;border-top:2px
solid var(--measured);vertical-align:middle} .key i.simulated{border-top:2px dashed var(--simulated)}
"""


def page_of(errors: Sequence[CaseErrors], replays: Sequence[Replay], refused: Sequence[Refused] = ()) -> str:
    """The page as HTML; ``errors`` and ``replays`` are of the same cases in the same order."""
    sections = [_section(case, replay) for case, replay in zip(errors, replays, strict=True)]
    sections += [
        f'<h2>{escape(name)}</h2><p class="bad">not simulated: {escape(why)}</p>' for name, why in refused
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Measured and simulated</title><style>{STYLE}</style></head><body>"
        "<h1>Measured and simulated</h1>"
        '<p class="key"><i></i> measured &nbsp; <i class="simulated"></i> simulated. An error is simulated'
        " over measured, less one; “each” is the mean absolute error request by request. Axes leave out the"
        " outermost half per cent.</p>"
        f"{''.join(sections)}</body></html>\n"
    )


def _section(case: CaseErrors, replay: Replay) -> str:
    facts = replay.case.facts
    lines = [f"{count(case.requests)} requests; times count from {facts.anchor}"]
    lines += [text for text in (facts.measured_with, facts.source, *case.notes) if text]
    return (
        f"<h2>{escape(case.name)}</h2>"
        + "".join(f"<p>{escape(line)}</p>" for line in lines)
        + _table(case)
        + f'<div class="plots">{_plots(replay)}</div>'
        + _over_time(replay)
    )


def _over_time(replay: Replay) -> str:
    """What a recorded case has over time."""
    if not replay.over_time:
        return ""
    drawn = "".join(
        f"<figure>{time_plot(s.title, s.time_s, s.measured, s.simulated, s.shown)}</figure>"
        for s in replay.over_time
    )
    return f'<h3>Over time, from the first arrival</h3><div class="plots">{drawn}</div>'


def _table(case: CaseErrors) -> str:
    titles = ("", "measured", "simulated", *STATISTICS, "each")
    rows = ["".join(f"<th>{title}</th>" for title in titles)]
    for metric, errors in case.error.items():
        shown = duration if metric in METRICS else count
        each = case.per_request[metric].relative if metric in case.per_request else None
        cells = [LABELS[metric], shown(case.measured[metric]["mean"]), shown(case.simulated[metric]["mean"])]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        row += "".join(_error(errors.get(name)) for name in STATISTICS)
        rows.append(row + f"<td>{NOTHING if each is None else f'{each:.1%}'}</td>")
    return '<div class="wide"><table>' + "".join(f"<tr>{row}</tr>" for row in rows) + "</table></div>"


def _error(error: float | None) -> str:
    if error is None:
        return f"<td>{NOTHING}</td>"
    size = abs(error)
    return f'<td class="{"good" if size <= GOOD else "fair" if size <= FAIR else "bad"}">{error:+.1%}</td>'


def _plots(replay: Replay) -> str:
    drawn = []
    for plot, of in ((distribution_plot, "share of requests"), (scatter_plot, "measured → simulated")):
        for metric in METRICS:
            measured, simulated = series(replay.measured, metric), series(replay.simulated, metric)
            both = ~np.isnan(measured) & ~np.isnan(simulated)
            if both.any():
                drawn.append(plot(f"{LABELS[metric]}, {of}", measured[both], simulated[both]))
    return "".join(f"<figure>{drawing}</figure>" for drawing in drawn)
