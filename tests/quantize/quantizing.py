# SPDX-License-Identifier: Apache-2.0
"""Calibrated rounding of a tiny model."""

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.run.runner import run

FORMATS = (
    "precision=custom",
    "precision.mlp_weights=BFP4",
    "precision.attention_weights=BFP4",
    "compute.mlp.math_fidelity=LoFi",
    "backend.numerics=fast",
)
SMALL = ("quantize.tokens=256", "quantize.verify_tokens=64", "quantize.window=32", "quantize.verify_texts=[]")


def resolved(model, *overrides):
    """The experiment: overrides go after, and so win over, what makes it small."""
    given = {text.partition("=")[0] for text in overrides}
    small = [text for text in (*FORMATS, *SMALL) if text.partition("=")[0] not in given]
    if "task=accuracy" in overrides:
        small = [text for text in small if not text.startswith("quantize.")]
    checked = check_overrides(["device=n150", "model=hf", f"model.path={model}", *small, *overrides])
    return resolve_or_refuse(compose(checked.texts), checked.typed)


def quantized(model, out, folder, *overrides):
    """The `quantize` section of the result."""
    experiment = resolved(model, "task=quantize", f"quantize.out={out}", *overrides)
    return run(experiment, folder, show_progress=False)["quantize"]
