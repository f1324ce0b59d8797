# SPDX-License-Identifier: Apache-2.0
"""Names as documents, catalogues and other tools spell them: each is understood, or answered with what is meant."""

from __future__ import annotations

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.exchange.server_spec import our_device
from tt_transformers_v2.config.groups import aliases, groups, option
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.schema_keys import annotation_of, meant

UNDERSTOOD = {
    "device": {
        **dict.fromkeys(("n150", "N150", "n150s", "N150d", "WH-N150", "wh_n150"), "n150"),
        **dict.fromkeys(("n300s", "N300d", "WH_N300"), "n300"),
        **dict.fromkeys(("T3000", "t3k", "TT-T3000", "WH-QuietBox", "GALAXY_T3K", "galaxy-t3k", "N300x4"), "t3k"),
        **dict.fromkeys(("GALAXY", "TG", "tt-galaxy", "tt_galaxy", "Galaxy-TG"), "tg"),
        **dict.fromkeys(("WH-Galaxy", "WH_GALAXY", "6U", "tt-galaxy-wh", "Wormhole Galaxy"), "wh_galaxy"),
        **dict.fromkeys(("BH-Galaxy", "BLACKHOLE_GALAXY", "tt-galaxy-bh", "BHGLX", "blackhole-galaxy"), "bh_galaxy"),
        **dict.fromkeys(("BH-QB-2", "bh_qb_2", "P300X2", "tt-quietbox-2", "QuietBox 2", "QB2"), "p300x2"),
        **dict.fromkeys(("P150X4", "p150-x4", "BH-QuietBox", "bh_qb", "4xP150"), "p150x4"),
        **dict.fromkeys(("P150X8", "P150_X8", "BH-LoudBox"), "p150x8"),
        **dict.fromkeys(("p150a", "P150B", "BH-P150"), "p150"),
        **dict.fromkeys(("p300c", "P300"), "p300"),
        "p100a": "p100",
    },
    "model": {
        **dict.fromkeys(("meta-llama/Llama-3.1-8B", "Llama-3.1-8B", "llama3.1-8b", "llama3_1_8b"), "llama8b"),
        **dict.fromkeys(("meta-llama/Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-8B-Instruct"), "llama8b"),
        **dict.fromkeys(("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-70B-Instruct"), "llama70b"),
        **dict.fromkeys(("meta-llama/Llama-3.3-70B", "meta-llama/Llama-3.3-70B-Instruct"), "llama3_3_70b"),
        **dict.fromkeys(("meta-llama/Llama-3.2-1B", "Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"), "llama1b"),
        "meta-llama/Llama-3.2-3B": "llama3b",
        **dict.fromkeys(("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct", "qwen2.5_7b"), "qwen2_5_7b"),
        **dict.fromkeys(("Qwen/Qwen2.5-72B", "Qwen/Qwen2.5-72B-Instruct"), "qwen2_5_72b"),
        **dict.fromkeys(("Qwen/Qwen2.5-Coder-32B", "Qwen/Qwen2.5-Coder-32B-Instruct"), "qwen2_5_coder_32b"),
        "Qwen/Qwen3-32B": "qwen3_32b",
        "qwen3-8b": "qwen3_8b",
        "mistralai/Mistral-7B-v0.3": "mistral7b",
        "HuggingFaceTB/SmolLM2-1.7B": "smollm2_1_7b",
        "microsoft/phi-4": "phi4",
        "openai/gpt-oss-20b": "gpt_oss_20b",
    },
    "precision": {"Performance": "performance", "ACCURACY": "accuracy"},
    "precision.ff2": {
        **dict.fromkeys(("BFP8", "bfp8", "Bfp8_b", "bfloat8_b", "ttnn.bfloat8_b", "DataType.BFLOAT8_B"), "BFP8"),
        **dict.fromkeys(("bfp4", "BFP4_B", "bfloat4_b", "ttnn.bfloat4_b"), "BFP4"),
        **dict.fromkeys(("bf16", "bfloat16", "ttnn.bfloat16", "BFLOAT16"), "BF16"),
    },
    "compute.mlp.math_fidelity": {
        **dict.fromkeys(("LoFi", "lofi", "LOFI", "ttnn.MathFidelity.LoFi", "MathFidelity.LoFi"), "LoFi"),
        **dict.fromkeys(("hifi2", "HIFI2"), "HiFi2"),
        **dict.fromkeys(("hifi4", "mathfidelity.hifi4"), "HiFi4"),
    },
    "runtime.sampling": {"Host": "host"},
}
SPELLINGS = [(key, name, meant) for key, names in UNDERSTOOD.items() for name, meant in names.items()]


@pytest.mark.parametrize(("key", "name", "meant"), SPELLINGS, ids=lambda each: str(each))
def test_a_name_is_understood_and_written_as_it_is_here(key, name, meant):
    (item,) = check_overrides([f"{key}='{name}'" if " " in name else f"{key}={name}"]).items
    assert (item.text, item.value) == (f"{key}={meant}", meant)


def test_there_are_enough_spellings():
    assert len(SPELLINGS) >= 100


ANSWERED = {
    "device=(4,8)": "(4,8) is a mesh of 32 chips, not a device. Choose device=bh_galaxy or tg or wh_galaxy; device",
    "device=[1,8]": "device takes one option",
    "device=(3,5)": "(3,5) is a mesh of 15 chips, not a device. choices: bh_galaxy",
    "device=QuietBox": "Did you mean device=p150x4 or p300x2 or t3k?",
    "device=tt-loudbox": "Did you mean device=p150x8 or t3k?",
    "device=blackhole": "Did you mean device=bh_galaxy?",
    "device=n151": "Did you mean device=n150",
    "device=GPU": "no device named 'GPU'. choices: bh_galaxy",
    "model=Qwen/Qwen3-8B-Base": "Did you mean model=qwen3_8b?",
    "model=someone/Llama-3.1-8B": "Did you mean model=llama8b or llama3_8b?",
    "model=llama-8b": "Did you mean model=llama8b",
    "precision=perf": "Did you mean precision=performance?",
    "precision.ff2=fp32": "'fp32' is not a DataFormat. choices: BFP4, BFP8, BF16",
    "compute.mlp.math_fidelity=hifi5": "Did you mean HiFi4?",
    "batch=32": "Did you mean workload.batch?",
    "batch_size=32": "Did you mean workload.batch?",
    "workload.batch_size=32": "Did you mean workload.batch?",
    "model.batch=32": "Did you mean workload.batch?",
    "max_seq_len=4096": "Did you mean workload.context?",
    "max_model_len=4096": "Did you mean workload.context?",
    "max_seq_leng=4096": "Did you mean workload.context?",
    "optimizations=performance": "Did you mean precision?",
    "math_fidelity=LoFi": "Did you mean compute.mlp.math_fidelity or compute.attention.math_fidelity",
    "trace_region_size=0": "Did you mean device.trace_region_size?",
    "max_batch_size=8": "Did you mean device.max_batch_size?",
    "num_layers=2": "Did you mean model.num_layers?",
    "kv_cache_dtype=bfp8": "Did you mean precision.kv_cache?",
    "tensor_parallel_size=8": "Did you mean parallelism.tensor_parallel_size?",
    "tp=8": "Did you mean parallelism.tensor_parallel_size?",
    "mesh_device=T3K": "Did you mean device?",
    "hf_model=x": "Did you mean model?",
    "devise=n150": "Did you mean device?",
    "zzz=1": "unknown key 'zzz': no zzz. choices: backend",
}


@pytest.mark.parametrize(("text", "says"), ANSWERED.items())
def test_what_is_no_name_is_answered_with_what_is_meant(text, says):
    with pytest.raises(ConfigError) as problem:
        check_overrides([text])
    assert says in str(problem.value)


def test_every_word_for_a_key_leads_to_a_key_that_exists():
    for key, words in read_yaml("rules/key_words.yaml").items():
        assert key in groups() or annotation_of(key) is not None
        for each in words:
            assert each not in groups()
            assert meant(each)[0] == key, each


def test_galaxy_is_one_device_everywhere():
    assert option("device", "GALAXY") == option("device", our_device("GALAXY")) == "tg"


def test_no_two_devices_have_a_name_in_common():
    names = {}
    for name, device in aliases("device").items():
        assert names.setdefault(name.replace("-", "").replace("_", "").replace(" ", ""), device) == device, name


def test_spellings_sweep_too():
    (axis,) = check_overrides(["precision.ff2=bfp8_b,bfloat4_b"], multirun=True).items
    assert [point.text for point in axis.points] == ["precision.ff2=BFP8", "precision.ff2=BFP4"]
