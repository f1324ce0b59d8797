# SPDX-License-Identifier: Apache-2.0
"""Describe a Tenstorrent language-model experiment in one line; know its accuracy and speed before touching a card.

Importing this package loads neither torch nor ttnn.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.attention import MultiHeadAttention
    from .api.model_factory import Model, ModelFactory
    from .models.spec import ModelSpec
    from .prediction.questions import predict_overrides as predict

# torch's OpenMP threads wait actively after each op, on the cores that our own kernels then want (numerics.compiled):
# 256 tokens of attention took five times the processor time beside other work. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["Model", "ModelFactory", "ModelSpec", "MultiHeadAttention", "__version__", "predict"]

# Name here -> module and name there.
_HOMES = {
    "Model": (".api.model_factory", "Model"),
    "ModelFactory": (".api.model_factory", "ModelFactory"),
    "ModelSpec": (".models.spec", "ModelSpec"),
    "MultiHeadAttention": (".api.attention", "MultiHeadAttention"),
    "predict": (".prediction.questions", "predict_overrides"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, own = _HOMES[name]
        return getattr(import_module(module, __name__), own)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
