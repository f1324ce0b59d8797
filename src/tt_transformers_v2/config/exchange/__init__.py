# SPDX-License-Identifier: Apache-2.0
"""In and out: TTTv1's optimisation strings and decoder JSON, vLLM's and tt-inference-server's settings."""

from ..kernel_words import kernel_settings, setting_name
from .imported import Imported, Written
from .server_entries import read_server_spec
from .server_spec import write_server_spec
from .serving_tools import read_vllm, write_vllm
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
