"""The catalog: every model of it has the published size, and every id leads to a model."""

from pathlib import Path

import pytest

from tokensim.errors import InputError
from tokensim.model import catalog_names, load_model, operators
from tokensim.model.load import published_parameters

PUBLISHED = published_parameters()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_within_one_percent_of_the_published(name: str) -> None:
    assert load_model(name).parameters == pytest.approx(PUBLISHED[name], rel=0.01)


# Active parameters as the publishers state them (model cards and reports); their rounding, and whether
# embeddings count, differ: hence the tolerance.
@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("mistralai/Mixtral-8x7B-v0.1", 12.9e9),
        ("mistralai/Mixtral-8x22B-v0.1", 39e9),
        ("Qwen/Qwen3-30B-A3B", 3.3e9),
        ("Qwen/Qwen3-235B-A22B", 22e9),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 35e9),
        ("Qwen/Qwen1.5-MoE-A2.7B", 2.7e9),
        ("Qwen/Qwen2-57B-A14B", 14e9),
        ("deepseek-ai/DeepSeek-V2", 21e9),
        ("deepseek-ai/DeepSeek-V3", 37e9),
        ("meta-llama/Llama-4-Scout-17B-16E", 17e9),
        ("meta-llama/Llama-4-Maverick-17B-128E", 17e9),
        ("microsoft/Phi-3.5-MoE-instruct", 6.6e9),
    ],
)
def test_active_parameters_are_the_published(name: str, active: float) -> None:
    assert load_model(name).active_parameters == pytest.approx(active, rel=0.025)


def test_gpt_oss_active_parameters_leave_out_one_embedding_in_its_card() -> None:
    # arXiv:2508.10925, table 1: 5.13e9 and 3.61e9 active, the input embedding not counted
    for name, active in (("openai/gpt-oss-120b", 5.13e9), ("openai/gpt-oss-20b", 3.61e9)):
        model = load_model(name)
        assert model.active_parameters - model.vocab * model.hidden == pytest.approx(active, rel=0.01)


@pytest.mark.parametrize("name", catalog_names())
def test_every_id_leads_to_a_model_that_runs(name: str) -> None:
    model = load_model(name)
    assert model.name == name
    assert model.source
    assert operators(model, "auto", "auto", 1, 1)


def test_the_families_that_users_ask_for_are_there() -> None:
    names = set(catalog_names())
    assert names >= {
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "Qwen/Qwen2.5-72B-Instruct",
        "Qwen/Qwen3-30B-A3B-Instruct-2507",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "google/gemma-3-27b-it",
        "deepseek-ai/DeepSeek-R1",
        "openai/gpt-oss-120b",
        "microsoft/phi-4",
        "facebook/opt-13b",
        "facebook/opt-66b",
    }


def test_ids_are_listed_once_and_found_in_any_case() -> None:
    names = [name.lower() for name in catalog_names()]
    assert len(names) == len(set(names))
    assert load_model("META-LLAMA/llama-3.1-8b").name == "meta-llama/Llama-3.1-8B"


def test_a_variant_differs_only_where_it_says() -> None:
    base, long = load_model("Qwen/Qwen3-30B-A3B"), load_model("Qwen/Qwen3-30B-A3B-Instruct-2507")
    assert (base.max_position, long.max_position) == (40_960, 262_144)
    assert base.parameters == long.parameters
    assert load_model("Qwen/Qwen3-8B-FP8").native_dtype == "fp8"


def test_an_unknown_id_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError) as caught:
        load_model("meta-llama/Llama-3.1-9B")
    assert str(caught.value).startswith("model: unknown model 'meta-llama/Llama-3.1-9B'")
    assert "meta-llama/Llama-3.1-8B" in str(caught.value)


def test_the_models_of_the_measured_cases_are_in_the_catalog(shared: Path) -> None:
    import yaml

    cases = sorted(shared.glob("groundtruth/*/case.yaml"))
    if not cases:
        pytest.skip(f"no measured cases in {shared}")
    for case in cases:
        scenario = yaml.safe_load(case.read_text())["scenario"]
        model = load_model(scenario["model"])
        for pool in scenario["cluster"]["pools"]:
            parallel = pool["parallel"]
            assert operators(model, "auto", "auto", parallel["tensor"], parallel.get("expert", 1))
