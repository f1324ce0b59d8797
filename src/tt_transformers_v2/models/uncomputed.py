# SPDX-License-Identifier: Apache-2.0
"""Kinds of models that the decoder here cannot compute: `model_type` of config.json, and why.

One place for folders and for names: conf/rules/refused_models.yaml gives the `model_type` of the models it lists.
Names and what they mean are those of transformers 5.24.0 (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping

_AXES = "it has a vision encoder and three-axis rotary embeddings."
_LINEAR = "three of four layers have linear attention (gated delta networks)."
_LATENT = "its attention is latent: keys and values are compressed into one small vector (MLA)."
_SPARSE = "its attention is latent (MLA), and a small network picks the keys that each query sees."
_GROUPED = "its router has sigmoid scores with a correction of their own and picks experts in groups."
_GEMMA4 = "its layers with full attention have wider heads than the others, whose keys and values they may share."
_FALCON = "it has layer norms, and runs attention and a plain MLP in parallel."

UNCOMPUTED: Mapping[str, str] = {
    "qwen2_vl": _AXES,
    "qwen2_5_vl": _AXES,
    "qwen3_vl": _AXES,
    "qwen3_vl_moe": _AXES,
    "qwen3_omni_moe": "it has audio input and output, and three-axis rotary embeddings.",
    "qwen3_next": _LINEAR,
    "qwen3_5": _LINEAR,
    "qwen3_5_moe": _LINEAR,
    "phi": "it has layer norms, a plain MLP with biases, and rotates half of each head.",
    "gemma3n": "its layers have embeddings of their own and parallel streams of the hidden state.",
    "gemma4": _GEMMA4,
    "gemma4_text": _GEMMA4,
    "exaone4_5": "it has a vision encoder, and how its files lay out the text decoder is not known here.",
    "molmo2": "it has a vision encoder, and its text decoder has tensors of its own layout.",
    "falcon": _FALCON,
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _SPARSE,
    "deepseek_v4": _SPARSE,
    "glm_moe_dsa": _SPARSE,
    "kimi_k2": _LATENT,
    "kimi_k25": _LATENT,
    "glm4_moe": _GROUPED,
    "bailing_moe_v2": _GROUPED,
    "mamba": "it is a state-space model without attention.",
    "mamba2": "it is a state-space model without attention.",
}
