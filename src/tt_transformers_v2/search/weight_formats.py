# SPDX-License-Identifier: Apache-2.0
"""The formats of a configuration's weights as tt-xla takes them: a JSON object from names of Hugging Face's parameters
to formats, with a default (weight dtype overrides: tt-xla pull request 3975, formats of tt-mlir pull request 7588).

Formats of weights are all that it says: kernels, activations and the KV cache are left to the compiler.
"""

from __future__ import annotations

import json
from collections import Counter

from ..common.errors import ConfigError
from ..config.resolve import Experiment
from ..hardware.enums import DataFormat
from ..hardware.op_table import LM_HEAD, MATRICES

_FORMATS = {DataFormat.BFP8: "bfp_bf8", DataFormat.BFP4: "bfp_bf4", DataFormat.BF16: "bf16"}
# Matrix -> the parameters of a layer in it, as Llama, Qwen and Mistral models of transformers name them.
_PARAMETERS = {
    "wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "wo": ("self_attn.o_proj",),
    "w1": ("mlp.gate_proj",),
    "w3": ("mlp.up_proj",),
    "w2": ("mlp.down_proj",),
}


def tt_xla_json(experiment: Experiment) -> str:
    """The weight formats of every layer; the most common one is the default.

    Raises ConfigError for formats that tt-xla has no name for, and for layers with experts or an MLP without a gate,
    whose parameters have other names.
    """
    spec, hardware = experiment.spec, experiment.hardware
    found: dict[str, str] = {}
    for layer in range(spec.num_layers):
        kind = spec.layer(layer)
        if kind.mlp is None or not kind.mlp.gated:
            raise ConfigError("tt-xla's JSON is written for dense models with a gated MLP.", "Use the tuning file.")
        own = hardware.for_layer(layer).precision
        for matrix, parameters in _PARAMETERS.items():
            name = _format(own.of(MATRICES[matrix].tensor_group))
            found |= {f"model.layers.{layer}.{parameter}.weight": name for parameter in parameters}
    head = _format(hardware.precision.of(LM_HEAD.tensor_group))
    if not spec.tie_embeddings:
        found["lm_head.weight"] = head
    default, _ = Counter(found.values()).most_common(1)[0]
    differing = {name: each for name, each in found.items() if each != default}
    return json.dumps({"default": default, **differing}, indent=2) + "\n"


def _format(data_format: DataFormat) -> str:
    if data_format not in _FORMATS:
        raise ConfigError(f"tt-xla has no name for weights in {data_format}.", "Use BF16, BFP8 or BFP4.")
    return _FORMATS[data_format]
