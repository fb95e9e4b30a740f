"""The small commands, the progress bar, and the program as a process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tokensim import cli
from tokensim.cli.progress import clock, progress_bar

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line; gives (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from tokensim.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    check = (
        "import sys\n"
        "from tokensim.cli import main\n"
        "sys.argv = ['tokensim', '--help']\n"
        "try: main()\n"
        "finally: print(sorted({'numpy', 'polars', 'pydantic', 'rich', 'yaml'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("run", "schema", "models", "devices", "--version"):
        assert command in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_a_refusal_is_one_message_and_exit_code_2_as_a_process() -> None:
    done = process("run", "no-such-scenario.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no-such-scenario.yaml: no such file")


def test_schema_prints_json(tokensim: Command) -> None:
    code, out, _ = tokensim("schema")
    assert code == 0
    assert json.loads(out)["title"] == "Scenario"


def test_version_is_printed(tokensim: Command) -> None:
    code, out, _ = tokensim("--version")
    assert code == 0
    assert out.startswith("tokensim ")


def test_devices_lists_the_catalog(tokensim: Command) -> None:
    code, out, _ = tokensim("devices")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split()[0] == "id"
    assert any(line.startswith("h100-sxm-80gb ") for line in lines)
    assert len(lines) > 30


def test_a_device_is_shown_with_its_sources(tokensim: Command) -> None:
    code, out, _ = tokensim("devices", "h100-sxm-80gb")
    assert code == 0
    assert "3,350 GB/s" in out
    facts, sources = out.split("\nSources\n")
    assert "TFLOP/s" in facts
    assert "efficiency:" in sources


def test_an_unknown_device_is_refused_with_the_nearest(tokensim: Command) -> None:
    code, out, err = tokensim("devices", "h100-smx-80gb")
    assert (code, out) == (2, "")
    assert "h100-smx-80gb" in err
    assert "h100-sxm-80gb" in err


def test_models_lists_the_catalog(tokensim: Command) -> None:
    code, out, _ = tokensim("models")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("meta-llama/Llama-3.1-8B "))
    assert row.split()[1:] == ["8.03B", "8.03B", "16.1", "128", "131,072"]


def test_a_model_is_shown_with_its_sizes(tokensim: Command) -> None:
    code, out, _ = tokensim("models", "deepseek-ai/DeepSeek-V3")
    assert code == 0
    assert "70,272 bytes a token" in out
    assert "8 of 256" in out


def test_an_unknown_model_is_refused_with_the_nearest(tokensim: Command) -> None:
    code, _, err = tokensim("models", "meta-llama/Lama-3.1-8B")
    assert code == 2
    assert "meta-llama/Llama-3.1-8B" in err


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_shows_requests_speed_and_simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(quiet=False) as progress:
        assert progress is not None
        progress(75.0, 1234, 5000)
    shown = terminal.getvalue()
    assert "1,234/5,000 requests" in shown
    assert "at 1:15 min" in shown
    assert "/s" in shown


def test_there_is_no_bar_when_quiet_or_away_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, stderr in ((True, Terminal()), (False, io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stderr)
        with progress_bar(quiet) as progress:
            assert progress is None
        assert stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (59.94, "59.9 s"), (60.0, "1:00 min"), (725.9, "12:05 min"), (11525.0, "3:12:05 h")],
)
def test_simulated_time_reads_like_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
