# SPDX-License-Identifier: Apache-2.0
"""A drill: a family that only recombines known kinds of layers is one file in conf/model and one entry of FAMILIES."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from places import DATA
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.families import FAMILIES, Family
from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.models.open_model import open_weights

# Norms as OLMo 2 has them, those of queries and keys as Qwen 3 has them, windows in every second layer as Gemma 2, and
# layers that rotate only where they have a window, as EXAONE 4: no family has all of that.
ENTRY = Family(
    "drill",
    ("DrillForCausalLM",),
    norms="after",
    stored_norms={"attention_post_norm": "post_attention_layernorm", "ffn_post_norm": "post_feedforward_layernorm"},
    qk_norm="head",
    windows="types",
    period=2,
    rotary="windowed",
)
PRESET = """
name: Drill-1
family: drill
model_type: drill
hf_id: nobody/Drill-1
vocab_size: 64
hidden_dim: 32
num_layers: 3
num_heads: 4
num_kv_heads: 2
head_dim: 16
intermediate_dim: 32
tie_embeddings: false
rope_theta: 10000.0
max_context: 256
sliding_window: 8
norm_eps: 1.0e-5
source: "made up"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """EXAONE 4's tiny weights, which have the same names, under the new model_type and with windows by the period."""
    exaone = DATA / "families" / "exaone4"
    config = json.loads((exaone / "config.json").read_text())
    config |= {"model_type": "drill", "architectures": ["DrillForCausalLM"]}
    for key in ("layer_types", "sliding_window_pattern"):
        config.pop(key)
    made = tmp_path / "Drill-1"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(config))
    save_file(load_file(exaone / "model.safetensors"), made / "model.safetensors")
    return made


def composed(conf: Path, *overrides: str):
    """What `--config-dir` with the one file gives."""
    (conf / "model").mkdir(parents=True, exist_ok=True)
    (conf / "model" / "drill_1.yaml").write_text(PRESET)

    @in_own_context
    def inside():
        add_conf_dir(conf)
        return resolve(compose(("device=n150", "model=drill_1", *overrides)))

    return inside()


def test_without_its_entry_the_family_is_refused_by_name_and_by_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model_type named 'drill'"):
        composed(tmp_path / "conf")
    with pytest.raises(ConfigError, match=r"config.json: model_type drill is not supported"):
        SafetensorsWeights(folder)


def test_with_its_entry_the_preset_and_the_folder_are_one_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "drill", ENTRY)  # type: ignore[arg-type]
    experiment = composed(tmp_path / "conf", "precision.mlp_weights=BFP4")
    kinds = [experiment.spec.layer(i) for i in range(3)]
    assert [kind.attention.window for kind in kinds] == [8, None, 8]
    assert [kind.attention.rotary is None for kind in kinds] == [False, True, False]
    assert {(kind.norms, kind.attention.qk_norm) for kind in kinds} == {("after", "head")}
    weights, _ = open_weights(experiment.spec, path=str(folder))
    assert weights.spec is experiment.spec
    ids = torch.from_numpy(np.load(DATA / "families" / "exaone4" / "expected.npz")["ids"])[None]
    logits = forward(ReferenceOps(), weights, ids)
    assert logits.shape == (1, ids.shape[1], 64)
    # The same weights as EXAONE 4's, whose second layer has a window: alike before it closes, different beyond.
    exaone = forward(ReferenceOps(), SafetensorsWeights(DATA / "families" / "exaone4"), ids)
    assert not torch.allclose(logits, exaone, rtol=1e-3)


def test_a_new_name_for_a_known_family_computes_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "drill", ENTRY)  # type: ignore[arg-type]
    exaone = DATA / "families" / "exaone4"
    config = json.loads((folder / "config.json").read_text())
    config["layer_types"] = json.loads((exaone / "config.json").read_text())["layer_types"]
    (folder / "config.json").write_text(json.dumps(config))
    with np.load(exaone / "expected.npz") as arrays:
        ids, wanted = torch.from_numpy(arrays["ids"])[None], torch.from_numpy(arrays["logits"])
    found = forward(ReferenceOps(), SafetensorsWeights(folder), ids)[0]
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4
