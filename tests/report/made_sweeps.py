# SPDX-License-Identifier: Apache-2.0
"""Sweeps made up for tests: the shape of real ones, with figures that follow from the settings."""

import itertools
import json
import random
from pathlib import Path

DEVICES = {"n150": 1, "n300": 2, "t3k": 8}
FORMATS = {"BFP4": (1.3, 0.08), "BFP8": (1.0, 0.01), "BF16": (0.6, 0.004)}
FIDELITIES = {"LoFi": 0.01, "HiFi2": 0.003, "HiFi4": 0.001}
BASIS = "emulated against float32 reference; real weights: a test model"


def result(overrides, *, speed=None, kl=None, ttft=None, status="ok", error=None, basis=BASIS, config=None):
    """A result.json with these figures; without `speed` or `kl` it lacks the section."""
    performance = accuracy = None
    if speed is not None:
        confidence = {"class": "calibrated", "band_percent": 12.0, "reasons": []}
        performance = {
            "basis": "predicted (roofline + overheads, calibration test)",
            "decode_tokens_per_s_per_user": speed,
            "tokens_per_s": speed,
            "ttft_ms": ttft if ttft is not None else 4000 / speed,
            "bound": "DRAM",
            "decode_confidence": confidence,
            "prefill_confidence": confidence | {"band_percent": 30.0},
            "memory": {"used": 3 << 30, "fits": True, "summary": "A test model fits.\nMore."},
            "nearest_measured": None,
        }
    if kl is not None:
        accuracy = {"numerics": "fast", "basis": basis, "weights": "real", "text": "a text", "tokens": 128}
        accuracy |= {"top1": max(0.0, 1 - 2 * kl), "top5": 1.0, "kl_divergence": kl, "pcc": 1 - kl / 10}
        accuracy |= {"perplexity": 10 + kl, "reference_perplexity": 10.0, "modules": [{"layer": 1.0}] * 30}
    typed = dict(text.split("=", 1) for text in overrides if "=" in text)
    return {
        "schema_version": 1,
        "status": status,
        "error": error,
        "overrides": list(overrides),
        "config": _config(typed) if config is None else config,
        "config_hash": f"{random.Random(repr(overrides)).getrandbits(48):012x}",
        "git": {"revision": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "environment": {"python": "3.12.1", "cpus": 2, "packages": {"tt-transformers-v2": "0.1.0", "ttnn": None}},
        "findings": [{"id": "x", "severity": "warning", "what": "LoFi.", "why": "Because.", "fix": "Use HiFi2."}],
        "rules": [{"rule": "a-rule", "path": "p", "value": 1, "previous": 2, "overruled_by": None}],
        "accuracy": accuracy,
        "performance": performance,
        "seconds": 1.5,
    }


def _config(typed):
    calibration = {f"constant_{index}": {"value": index / 7, "unit": "us per layer"} for index in range(120)}
    return {
        "device": {"device_type": typed.get("device", "n150").upper(), "mesh_shape": [1, 1]},
        "precision": {"mlp_weights": typed.get("precision.mlp_weights", "BFP8"), "kv_cache": "BFP8"},
        "compute": {"mlp": {"math_fidelity": typed.get("compute.mlp.math_fidelity", "HiFi2")}},
        "calibration": calibration,
        "seed": int(typed.get("seed", 0)),
    }


def write(folder, results):
    """Each result into its own numbered folder; returns `folder`."""
    for number, content in enumerate(results):
        job = Path(folder) / str(number)
        job.mkdir(parents=True)
        (job / "result.json").write_text(json.dumps(content))
    return Path(folder)


def grid(*, seeds=1, faster=1.0):
    """One result per device, weight format, fidelity and seed: 27 per seed."""
    noise = random.Random(5)
    found = []
    for device, data, fidelity, seed in itertools.product(DEVICES, FORMATS, FIDELITIES, range(seeds)):
        overrides = [f"device={device}", f"precision.mlp_weights={data}", f"compute.mlp.math_fidelity={fidelity}"]
        if seeds > 1:
            overrides.append(f"seed={seed}")
        quick, loss = FORMATS[data]
        speed = faster * 25 * quick * DEVICES[device] ** 0.5 * (1 + noise.uniform(0, 0.05)) / (1 + FIDELITIES[fidelity])
        found.append(result([*overrides, "task=both"], speed=speed, kl=loss + FIDELITIES[fidelity] + seed * 1e-6))
    return found
