# SPDX-License-Identifier: Apache-2.0
"""In and out: TTTv1's optimisation strings and decoder JSON, vLLM's and tt-inference-server's settings.

Names are looked up when first used: the model rules need `kernels` alone, and the readers need the rules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .imported import Imported, Written
    from .kernels import kernel_settings, setting_name
    from .serving import read_server_spec, read_vllm, write_server_spec, write_vllm
    from .tttv1 import read_decoder_json, read_optimizations
    from .tttv1_writing import write_decoder_json, write_optimizations

__all__ = [
    "Imported",
    "Written",
    "kernel_settings",
    "read_decoder_json",
    "read_optimizations",
    "read_server_spec",
    "read_vllm",
    "setting_name",
    "write_decoder_json",
    "write_optimizations",
    "write_server_spec",
    "write_vllm",
]

_HOMES = {
    "Imported": ".imported",
    "Written": ".imported",
    "kernel_settings": ".kernels",
    "read_decoder_json": ".tttv1",
    "read_optimizations": ".tttv1",
    "read_server_spec": ".serving",
    "read_vllm": ".serving",
    "setting_name": ".kernels",
    "write_decoder_json": ".tttv1_writing",
    "write_optimizations": ".tttv1_writing",
    "write_server_spec": ".serving",
    "write_vllm": ".serving",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
