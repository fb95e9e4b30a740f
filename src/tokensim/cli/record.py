"""``tokensim record``: send a workload to a live server, and leave a measured case."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokensim.cli import DONE, INCOMPLETE
from tokensim.cli.options import Overrides, Plugins, load_plugins
from tokensim.cli.progress import BAR, ELAPSED, terminal_bar
from tokensim.cli.recording import KEY, document_of, headers_of, options_of, scenario_of, workload_of

if TYPE_CHECKING:
    from tokensim.cli.interrupt import Interrupt
    from tokensim.record.load import Count, Watch
    from tokensim.record.run import Options
    from tokensim.scenario.loading import Document
    from tokensim.workload.base import Workload


def record(
    url: Annotated[str, typer.Argument(help="The server: http://localhost:8000", metavar="URL")],
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", "-s", metavar="FILE", help="What serves it, and the workload (YAML)."),
    ] = None,
    workload: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A workload (YAML) instead of the scenario's.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="The folder of the case. [default: cases/recorded]"
        ),
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="ID", help="Catalog id, or a YAML file: what it runs on.")
    ] = None,
    set_: Overrides = None,
    rate: Annotated[
        str | None, typer.Option(metavar="R", help="Requests a second; inf: all at once.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="A closed loop of so many users.")
    ] = None,
    think_time: Annotated[
        str | None, typer.Option(metavar="T", help="Their pause after an answer, as 2s. [default: none]")
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Hold requests back beyond so many in flight.")
    ] = None,
    input_tokens: Annotated[str | None, typer.Option(metavar="N", help="Tokens of every prompt.")] = None,
    output_tokens: Annotated[str | None, typer.Option(metavar="N", help="Tokens of every answer.")] = None,
    num_requests: Annotated[
        str | None, typer.Option(metavar="N", help="How many requests, or sessions.")
    ] = None,
    trace: Annotated[str | None, typer.Option(metavar="FILE", help="Send this trace.")] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Seed of the workload and of the prompts.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model's name at the server. [default: its first]")
    ] = None,
    flavour: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="vllm, sglang, tensorrt-llm, llama.cpp, tgi. [default: as it says]"
        ),
    ] = None,
    endpoint: Annotated[str, typer.Option(metavar="NAME", help="completions, chat or auto.")] = "auto",
    prompts: Annotated[str, typer.Option(metavar="KIND", help="ids, text or auto.")] = "auto",
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model's tokenizer.json, for texts of exact lengths."),
    ] = None,
    extra_body: Annotated[
        str | None, typer.Option(metavar="JSON", help="Goes into every request: '{\"temperature\": 1}'")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help=f"The server's key; better: {KEY} in the environment.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME: VALUE", help="A header. Repeatable.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0.001, help="Seconds a request may take.")
    ] = 600.0,
    retries: Annotated[
        int, typer.Option(metavar="N", min=0, help="Ask again if the server says later; distorts the load.")
    ] = 0,
    warmup: Annotated[
        int, typer.Option(metavar="N", min=0, help="Send the first N requests before, unmeasured.")
    ] = 0,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, help="Record so many times: a case each.")] = 1,
    scrape: Annotated[
        float, typer.Option(metavar="S", min=0.0, help="Seconds between polls of the metrics; 0: none.")
    ] = 0.25,
    metrics_path: Annotated[str, typer.Option(metavar="PATH", help="Where the metrics are.")] = "/metrics",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the case. [default: the folder's]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a case.")] = False,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON; -: to stdout.")
    ] = None,
    plugin: Plugins = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Send a workload to a live server, time every token, and leave a case for validate and calibrate.

    The server must be OpenAI-compatible and stream. Ctrl-C stops it; what was measured is written, marked
    partial. Exit codes: 0 done, 1 requests failed or it was stopped, 2 the input or the server was refused.
    """
    from tokensim.cli.folder import case_folder
    from tokensim.cli.interrupt import Interrupt
    from tokensim.record.run import check_workload

    load_plugins(plugin)
    document = document_of(
        scenario,
        workload,
        hardware,
        set_ or [],
        {
            "rate": rate,
            "input-tokens": input_tokens,
            "output-tokens": output_tokens,
            "num-requests": num_requests,
            "trace": trace,
            "seed": seed,
        },
        concurrency,
        think_time,
        max_in_flight,
    )
    spec_seed, load = workload_of(document)
    check_workload(load)
    folder = output or Path("cases") / "recorded"
    folders = [folder] if repeat == 1 else [folder / str(number) for number in range(1, repeat + 1)]
    options = options_of(
        endpoint,
        prompts,
        tokenizer,
        extra_body,
        headers=headers_of(api_key, header or []),
        flavour=flavour,
        model=model,
        timeout_s=timeout,
        retries=retries,
        warmup=warmup,
        repeat=repeat,
        seed=spec_seed,
        scrape_s=scrape,
        metrics_path=metrics_path,
    )
    title = name or folder.resolve().name
    with Interrupt() as interrupt, ExitStack() as stack:
        for one in folders:
            stack.callback(case_folder(one, force=force).withdraw)
        code = _record(url, document, load, options, folders, title, interrupt, json_, quiet=quiet)
    raise typer.Exit(code)


def _record(
    url: str,
    document: Document,
    load: Workload,
    options: Options,
    folders: list[Path],
    title: str,
    interrupt: Interrupt,
    json_: str | None,
    *,
    quiet: bool,
) -> int:
    """Record, write and print each pass; the exit code."""
    from tokensim.errors import SimulationError
    from tokensim.record.run import record as recordings
    from tokensim.record.terminal import as_dict, render
    from tokensim.record.write import write_recording
    from tokensim.validation.output import print_plain, write_text

    talks = not quiet and json_ != "-"
    told: list[dict[str, Any]] = []
    failed: SimulationError | None = None
    code = DONE

    def tell(line: str) -> None:
        if talks:
            typer.echo(line)

    with (
        _progress(interrupt, quiet) as watch,
        closing(recordings(url, load, options, watch=watch, tell=tell)) as passes,
    ):
        for number, recording in enumerate(passes):
            name = title if len(folders) == 1 else f"{title} {number + 1}"
            tree, notes = scenario_of(document, recording)
            try:
                write_recording(folders[number], recording, tree, name=name, notes=notes)
            except SimulationError as error:
                failed = error
            told.append({"folder": None if failed else str(folders[number]), **as_dict(recording, notes)})
            if talks:
                print_plain(render(recording, name, notes))
                if failed is None:
                    typer.echo(f"Case: {folders[number]}")
            if not recording.complete:
                code = INCOMPLETE
            if failed is not None:
                break
    if json_ is not None:
        text = json.dumps({"recordings": told}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if json_ == "-":
            typer.echo(text, nl=False)
        else:
            write_text(Path(json_), text)
    if failed is not None:
        raise failed
    if not told:
        print("error: interrupted before anything was measured", file=sys.stderr)
        return INCOMPLETE
    if code == INCOMPLETE:
        print("error: the recording is not complete: requests failed, or it was stopped", file=sys.stderr)
    return code


@contextmanager
def _progress(interrupt: Interrupt, quiet: bool) -> Iterator[Watch]:
    """Shows how the load stands, on a terminal; stops it at Ctrl-C."""
    columns = (
        "recording",
        BAR,
        "{task.completed:,.0f}/{task.total:,.0f} done",
        "{task.fields[state]}",
        ELAPSED,
    )
    with terminal_bar(quiet, *columns) as bar:
        if bar is None:
            yield lambda count: _asked(interrupt)
            return
        task = bar.add_task("", total=0, state="")

        def watch(count: Count) -> bool:
            state = f"{count.in_flight:,} in flight, at most {count.lateness_s * 1e3:.1f} ms late"
            if count.failed:
                state = f"{count.failed:,} failed, {state}"
            bar.update(task, completed=count.done + count.failed, total=count.total, state=state)
            return _asked(interrupt)

        yield watch


def _asked(interrupt: Interrupt) -> bool:
    """Whether Ctrl-C was pressed."""
    try:
        interrupt.check()
    except KeyboardInterrupt:
        return True
    return False
