"""Which tables fit a device, an engine and a model; and the command line for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import table_samples as samples

from tokensim import cli
from tokensim.cost.base import Setting
from tokensim.cost.tables.find import device_id, list_tables, open_tables
from tokensim.errors import InputError
from tokensim.hardware import catalog_names, load_device

LLAMA = "meta-llama/Llama-3.1-8B"


def setting(device: str, model: str = LLAMA, **other: object) -> Setting:
    return Setting(load_device(device), model, **other)  # type: ignore[arg-type]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder for each format."""
    samples.aiconfigurator(tmp_path / "aic")
    samples.llmservingsim(tmp_path / "llm")
    samples.vidur(tmp_path / "vidur")
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "format_", "device"),
    [
        ("aic", "aiconfigurator", "h100-sxm-80gb"),
        ("llm", "llmservingsim", "rtx-4090-24gb"),
        ("vidur", "vidur", "a100-sxm-80gb"),
    ],
)
def test_the_format_is_known_by_content_and_the_device_by_the_catalog(
    sources: Path, folder: str, format_: str, device: str
) -> None:
    entries = list_tables(folder, sources)
    assert {(entry.format, device_id(entry)) for entry in entries} == {(format_, device)}
    (opened,) = open_tables(
        folder, setting(device, "Meta-Llama-3-8B" if folder == "vidur" else LLAMA), sources
    )
    assert opened.device == device


def test_several_formats_in_one_folder_are_all_found(sources: Path) -> None:
    assert {entry.format for entry in list_tables(str(sources))} == {"llmservingsim", "vidur"}
    assert len(list_tables("aic", sources)) == 2


def test_the_engine_is_the_settings_own_under_any_of_its_names(sources: Path) -> None:
    (opened,) = open_tables("aic", setting("h100", engine="TensorRT-LLM"), sources)
    assert (opened.engine, opened.version) == ("trtllm", "1.3.0rc20")


def test_another_engine_stands_in_and_a_note_says_so(sources: Path) -> None:
    (opened,) = open_tables("llm", setting("rtx-4090", engine="sglang"), sources)
    assert opened.engine == "vllm"
    assert opened.notes[0] == "times of vllm: sglang was not measured"


def test_the_version_is_the_nearest(sources: Path) -> None:
    (opened,) = open_tables("aic", setting("h100", version="0.13.0"), sources, kinds=["gemm"])
    assert opened.version == "0.14.0"
    assert list(opened.tables) == ["gemm"]


def test_a_model_matches_by_its_last_name_and_its_ranks(sources: Path) -> None:
    samples.llmservingsim(sources / "more", tensor=2)
    assert open_tables("more", setting("rtx-4090", "/models/llama-3.1-8b", tensor=2), sources)
    with pytest.raises(
        InputError, match=r"no measured operator times of meta-llama/Llama-3.1-8B on 4 tensor"
    ):
        open_tables("more", setting("rtx-4090", tensor=4), sources)


def test_what_is_not_covered_gets_a_list_of_what_is(sources: Path) -> None:
    with pytest.raises(InputError) as refused:
        open_tables("llm", setting("h100"), sources)
    assert refused.value.where == "performance.operators"
    assert "no measured operator times of h100-sxm-80gb" in str(refused.value)
    assert f"there are: RTX4090 vllm {LLAMA} bfloat16 TP1" in str(refused.value)


def test_paths_without_tables_are_refused(sources: Path) -> None:
    (sources / "empty").mkdir()
    (sources / "notes.txt").write_text("no table", encoding="utf-8")
    for name, says in (
        ("empty", "no measured tables in"),
        ("nowhere", "no such file"),
        ("notes.txt", "parquet"),
    ):
        with pytest.raises(InputError, match=says):
            open_tables(name, setting("h100"), sources)


def test_a_device_with_another_memory_rate_has_no_measured_times(sources: Path) -> None:
    cheaper = load_device({"base": "h100", "price_per_hour_usd": 1.0})
    faster = load_device({"base": "h100", "memory_bandwidth": "5 TB/s"})
    assert open_tables("aic", Setting(cheaper, LLAMA), sources)
    with pytest.raises(InputError, match="no measured operator times"):
        open_tables("aic", Setting(faster, LLAMA), sources)
    named = load_device(
        {"base": "h100", "memory_bandwidth": "5 TB/s", "profiles": {"aiconfigurator": "h100_sxm"}}
    )
    assert open_tables("aic", Setting(named, LLAMA), sources)


def test_an_unknown_source_of_names_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'aiconfigurator'"):
        load_device({"base": "h100", "profiles": {"aiconfigurater": "h100_sxm"}})


# ---- the installed package

installed = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed"
)


@installed
def test_every_name_of_the_package_in_the_catalog_is_a_system_of_it() -> None:
    there = {entry.device for entry in list_tables("aiconfigurator")}
    named = {
        device.profiles["aiconfigurator"]
        for device in map(load_device, catalog_names())
        if "aiconfigurator" in device.profiles
    }
    assert named <= there
    assert len(named) >= 9


@installed
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_the_installed_tables_hold_every_kind(engine: str) -> None:
    (profile,) = open_tables("aiconfigurator", setting("h100", engine=engine))
    assert set(profile.tables) == {
        "gemm", "gemm_elsewhere", "prefill_attention", "decode_attention", "experts",
        "mla_prefill", "mla_decode", "mla_bmm", "collective",
    }  # fmt: skip
    assert profile.tables["gemm"].height > 90_000


@installed
def test_collectives_of_the_package_stay_below_the_links_of_the_device() -> None:
    """The check of units: NVLink moves 450 GB/s; what a ring moves per rank stays below, and gets near."""
    (profile,) = open_tables("aiconfigurator", setting("h100"), kinds=["collective"])
    large = profile.tables["collective"].filter(collective="all_gather", ranks=8, bytes=2**29)
    moved = 7 / 8 * 2**29 / large["seconds"][0]
    assert 0.6 * 450e9 < moved < 450e9


@installed
def test_large_gemms_of_the_package_stay_below_the_peak() -> None:
    (profile,) = open_tables("aiconfigurator", setting("h100"), kinds=["gemm"])
    large = profile.tables["gemm"].filter(dtype="bfloat16", m=8192, n=8192, k=8192)
    rate = 2 * 8192**3 / large["seconds"][0]
    assert 0.5 < rate / load_device("h100").flops["bfloat16"] < 1.0


# ---- the command line


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", "profiles", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_list_names_devices_engines_and_models(tokensim, sources: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = tokensim("list", str(sources / "llm"))
    assert code == 0
    assert out.splitlines()[1].split() == [
        "rtx-4090-24gb",
        "RTX4090",
        "vllm",
        "0.19.0",
        LLAMA,
        "bfloat16",
        "1",
    ]


def test_show_tells_rows_times_and_what_was_left_out(tokensim, sources: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = tokensim("show", str(sources / "vidur"), "--device", "a100")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["gemm", "2", "100.0", "150.0", "200.0"] in lines
    assert "rows across nodes left out" in out


@pytest.mark.parametrize("folder", ["aic", "llm", "vidur"])
def test_what_was_converted_opens_as_the_source_did(tokensim, sources: Path, folder: str) -> None:  # type: ignore[no-untyped-def]
    target = sources / "ours"
    code, out, _ = tokensim("convert", str(sources / folder), "-o", str(target))
    assert code == 0
    assert str(target) in out
    device = {"aic": "h100", "llm": "rtx-4090", "vidur": "a100"}[folder]
    wanted = setting(device, "Meta-Llama-3-8B" if folder == "vidur" else LLAMA)
    (before,) = open_tables(folder, wanted, sources)
    (after,) = open_tables("ours", wanted, sources)
    assert (before.device, before.engine, before.version) == (after.device, after.engine, after.version)
    assert before.tables.keys() == after.tables.keys()
    for kind, table in before.tables.items():
        times = [name for name in table.columns if name.endswith("seconds")]
        assert table.drop(times).equals(after.tables[kind].drop(times))
        for name in times:
            assert after.tables[kind][name].to_list() == pytest.approx(table[name].to_list(), rel=1e-6)


def test_convert_of_one_engine_writes_that_engine_only(tokensim, sources: Path) -> None:  # type: ignore[no-untyped-def]
    target = sources / "ours"
    tokensim("convert", str(sources / "aic"), "-o", str(target), "--engine", "trtllm", "--device", "h100")
    assert [file.name for file in target.iterdir()] == ["h100-sxm-80gb-trtllm-bfloat16.parquet"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--device", "t4"), ("--engine", "lmdeploy"), ("--model", "gpt-2"), ("--device", "??")],
)
def test_filters_that_leave_nothing_are_refused(tokensim, sources: Path, option: str, value: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = tokensim("list", str(sources / "llm"), option, value)
    assert (code, out) == (2, "")
    assert f"nothing of the {option[2:]} '{value}'" in err
    assert "there are: RTX4090" in err
