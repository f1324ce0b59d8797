# SPDX-License-Identifier: Apache-2.0
"""Settings of vllm-tt-plugin: which keys there are, and what of a foreign mapping is understood.

Keys: README of vllm-tt-plugin (section Configuration), as of August 2026; `fabric_config` and
`fabric_reliability_mode` are members of ttnn.FabricConfig and ttnn.FabricReliabilityMode of ttnn 0.81.1.
override_tt_config of tt-inference-server and of older vLLM commands takes the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...common.errors import ConfigError, closest
from ..findings import Finding, Severity
from ..kernel_words import shown

UNKNOWN_KEY = "exchange-unknown-key"
UNKNOWN_VALUE = "exchange-unknown-value"
OPTIMIZATIONS = ("performance", "accuracy")

_FABRICS = (
    *("DISABLED", "FABRIC_1D", "FABRIC_1D_RING", "FABRIC_1D_NEIGHBOR_EXCHANGE", "FABRIC_2D"),
    *("FABRIC_2D_TORUS_X", "FABRIC_2D_TORUS_Y", "FABRIC_2D_TORUS_XY", "CUSTOM"),
)
# The values a key may have, or their type.
TT_KEYS: dict[str, tuple[str, ...] | type] = {
    "sample_on_device_mode": ("all", "decode_only"),
    "trace_mode": ("all", "decode_only", "none"),
    "enable_model_warmup": bool,
    "trace_region_size": int,
    "worker_l1_size": int,
    "l1_small_size": int,
    "fabric_config": _FABRICS,
    "fabric_reliability_mode": ("STRICT_INIT", "RELAXED_INIT", "DYNAMIC_RECONFIG"),
    "fabric_max_packet_payload_size_bytes": int,
    "dispatch_core_axis": ("row", "col"),
    "always_compat_sampling": bool,
    "decode_interleave_prefill_steps": int,
    "decode_interleave_decode_steps": int,
    "input_queue_batching_delay": float,
    "optimizations": OPTIMIZATIONS,
    "register_test_models": bool,
    "rank_binding": str,
    "mpi_args": str,
    "extra_ttrun_args": str,
    "config_pkl_dir": str,
    "env_passthrough": list,
}
_SIZES = ("trace_region_size", "worker_l1_size", "l1_small_size", "fabric_max_packet_payload_size_bytes")
_READ = "trace_region_size"  # what a DeviceConfig takes over, and so has to be right
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}


def understood(settings: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[Finding]]:
    """What of the plugin's `settings` has a meaning here, and a warning for everything else, with its path.

    A null is unset. Raises ConfigError for a trace_region_size that is no size.
    """
    known: dict[str, Any] = {}
    findings: list[Finding] = []
    for key, value in settings.items():
        path = f"{where}.{key}"
        if key not in TT_KEYS:
            findings.append(unknown_key(path, key, TT_KEYS))
        elif value is None:
            continue  # unset; for sample_on_device_mode: the host samples
        elif problem := _problem(key, value):
            if key == _READ:
                raise ConfigError(f"{path} {problem}")
            near = closest(str(value)[:60], TT_KEYS[key]) if isinstance(TT_KEYS[key], tuple) else None  # type: ignore[arg-type]
            findings.append(unknown_value(f"{path} {problem}", f"Did you mean {near}?" if near else ""))
        else:
            known[key] = value
    return known, findings


def _problem(key: str, value: Any) -> str:
    """What is wrong with a setting's value, "" where nothing is."""
    wanted = TT_KEYS[key]
    if isinstance(wanted, tuple):
        return "" if value in wanted else f"is {shown(value)}, expected {', '.join(wanted)}."
    if not is_kind(value, wanted):
        return f"must be {kind_name(wanted)}, not {shown(value)}."
    return "must not be negative." if key in _SIZES and value < 0 else ""


def is_kind(value: Any, wanted: type) -> bool:
    """Whether a plain value is of a type; a boolean is no number, a whole number is a float."""
    right = isinstance(value, (int, float) if wanted is float else wanted)
    return right and (wanted is bool or not isinstance(value, bool))


def kind_name(wanted: type) -> str:
    """A type in words: a whole number, text, a mapping."""
    return _NAMES.get(wanted, "a mapping")


def unknown_key(path: str, key: str, choices: Any) -> Finding:
    """The warning for a key that nothing here knows, which is kept as it stood."""
    near = closest(key[:60], choices)
    fix = f"Did you mean {near}?" if near else "Nothing to do where the tool that reads it knows it."
    return Finding(
        UNKNOWN_KEY, Severity.warning, f"{_short(path)} is not known here.", "It is kept, and nothing reads it.", fix
    )


def unknown_value(what: str, fix: str = "") -> Finding:
    """The warning for a value that cannot be read, which is kept as it stood."""
    fix = fix or "Nothing to do where the tool that reads it takes it."
    return Finding(UNKNOWN_VALUE, Severity.warning, what, "It is kept, and nothing reads it.", fix)


def _short(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:200]}…"
