# SPDX-License-Identifier: Apache-2.0
import csv
import json

import pytest

from places import DATA
from tt_transformers_v2.config.building import build
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.experiment_schema import ModelConfig
from tt_transformers_v2.config.groups import groups, option
from tt_transformers_v2.config.model_rules import chunk_unsupported, name_matches, prefill_chunk, trace_region
from tt_transformers_v2.config.refused_models import reason
from tt_transformers_v2.config.resolve import model_spec
from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.models.families import FAMILIES
from tt_transformers_v2.models.huggingface_config import huggingface_spec
from tt_transformers_v2.models.uncomputed import UNCOMPUTED

MODELS = tuple(name for name in groups()["model"] if name != "hf")
with (DATA / "models_of_tt_metal.csv").open(encoding="utf-8") as stream:
    KNOWN = {row["name"]: row for row in csv.DictReader(line for line in stream if not line.startswith("#"))}
REFUSED = read_yaml("rules/refused_models.yaml")


def described(name):
    return build(ModelConfig, compose((f"model={name}",))["model"])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_composes_and_has_the_published_number_of_parameters(name):
    model = described(name)
    assert model.source
    assert model.family
    if model.name in KNOWN:
        billions = float(KNOWN[model.name]["parameters_billion"])
        # The published figure has two decimals, and counts the cross-attention layers that text alone skips.
        if name in ("llama11b", "llama90b"):
            assert 0.7 * billions < model_spec(model).num_parameters / 1e9 < 0.9 * billions
            return
        assert model_spec(model).num_parameters / 1e9 == pytest.approx(billions, rel=0.01, abs=0.005)


def test_all_models_of_tt_metal_are_either_described_or_refused():
    ours = {described(name).name for name in MODELS}
    assert ours & set(REFUSED) == set()
    assert set(KNOWN) == (ours & set(KNOWN)) | set(REFUSED)


def test_no_name_is_claimed_twice():
    claimed = []
    for name in MODELS:
        model = described(name)
        claimed += {other.casefold() for other in (name, model.name, model.hf_id, *model.aliases)}
        assert len(model.aliases) == len({alias.casefold() for alias in model.aliases} - {model.name.casefold()})
    assert len(claimed) == len(set(claimed))


@pytest.mark.parametrize("name", MODELS)
def test_users_names_reach_the_model_in_any_case(name):
    model = described(name)
    for other in (model.name, model.hf_id, *model.aliases):
        assert option("model", other.lower()) == option("model", other.upper()) == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Llama-3.1-8B", "llama8b"),
        ("Llama-3.2-11B", "llama11b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3_3_70b"),
        ("Qwen2.5-7B", "qwen2_5_7b"),
        ("Mistral-7B", "mistral7b"),
        ("phi-4", "phi4"),
    ],
)
def test_base_names_of_tt_transformers_reach_the_model(typed, name):
    assert option("model", typed) == name


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_model_says_why(name):
    entry = REFUSED[name]
    why = reason(entry)
    assert why.endswith(".")
    for typed in (name, name.upper(), name.replace("-", "_"), name.replace(".", "-"), entry.get("hf_id") or name):
        with pytest.raises(ConfigError) as caught:
            option("model", typed)
        assert str(caught.value) == f"{name} is known but not supported: {why}"


@pytest.mark.parametrize("name", [name for name in REFUSED if "model_type" in REFUSED[name]])
def test_a_folder_of_a_refused_model_is_refused_for_the_same_reason(name, tmp_path):
    entry = REFUSED[name]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": entry["model_type"]}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        huggingface_spec(tmp_path)
    assert str(caught.value).endswith(
        f"config.json: model_type {entry['model_type']} is known but not supported: {reason(entry)}"
    )


def test_no_family_that_loads_is_refused_by_name():
    kinds = {entry.get("model_type") for entry in REFUSED.values()}
    assert not kinds & set(FAMILIES)
    assert not set(UNCOMPUTED) & set(FAMILIES)


@pytest.mark.parametrize("typed", ["DeepSeek_V3", "gemma-4-E4B", "google/gemma_4_e4b", "Qwen2_5-VL-7B"])
def test_a_refused_model_is_known_by_its_base_name(typed):
    with pytest.raises(ConfigError, match="is known but not supported"):
        option("model", typed)


def test_an_unknown_model_gets_the_nearest_one():
    with pytest.raises(ConfigError, match="Did you mean model=qwen3_8b"):
        option("model", "qwen3_8")


@pytest.mark.parametrize("table", ["prefill_chunks", "trace_regions"])
def test_tables_speak_of_models_and_devices_that_exist(table):
    names = {described(name).name for name in MODELS}
    devices = {read_yaml(f"device/{name}.yaml")["device"]["device_type"] for name in groups()["device"]}
    for base, row in read_yaml(f"rules/{table}.yaml").items():
        assert any(name_matches(name, [base.casefold()]) for name in names), base
        assert set(row) <= devices


def test_systems_that_tt_transformers_names_alike_have_the_same_chunks():
    for row in read_yaml("rules/prefill_chunks.yaml").values():
        assert row.get("P300x2") == row.get("P150x4")
        assert row.get("WH_GALAXY") == row.get("TG")


def test_look_ups_ignore_case_and_suffixes():
    assert prefill_chunk("llama-3.2-11b-vision-instruct", "N300") == 65536
    assert prefill_chunk("phi-4", "N150") == 4096
    assert prefill_chunk("Phi-3-mini-128k-instruct", "N150") == 32768
    assert trace_region("Mistral-7B-Instruct-v0.3", "N150") == 25_000_000
    assert trace_region("Llama-3.1-8B-Instruct", "P150") is None


def test_null_means_unsupported_and_absence_means_unknown():
    assert chunk_unsupported("Llama-3.1-70B-Instruct", "N150")
    assert prefill_chunk("Llama-3.1-70B-Instruct", "N150") is None
    assert not chunk_unsupported("Llama-3.1-70B-Instruct", "P150")
    assert not chunk_unsupported("Llama-3.1-70B-Instruct", "T3K")
