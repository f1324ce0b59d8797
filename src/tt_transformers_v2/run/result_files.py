# SPDX-License-Identifier: Apache-2.0
"""What a job leaves behind: result.json, and which of its figures a sweep's table has."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from ..common.checkout import project_dir
from ..common.files import write_atomically

SCHEMA_VERSION = 1
RESULT_FILE = "result.json"
REPORT_FILE = "report.html"

# Columns of results.csv and of the printed table: name, path into result.json.
COLUMNS = {
    "status": "status",
    "top1": "accuracy.top1",
    "top5": "accuracy.top5",
    "kl_divergence": "accuracy.kl_divergence",
    "pcc": "accuracy.pcc",
    "perplexity": "accuracy.perplexity",
    "reference_perplexity": "accuracy.reference_perplexity",
    "next_token_top1": "accuracy.next_token_top1",
    "next_token_top5": "accuracy.next_token_top5",
    "weights": "accuracy.weights",
    "decode_tokens_per_s_per_user": "performance.decode_tokens_per_s_per_user",
    "tokens_per_s": "performance.tokens_per_s",
    "ttft_ms": "performance.ttft_ms",
    "measured_decode_tokens_per_s_per_user": "performance.measured.decode_tokens_per_s_per_user",
    "measured_ttft_ms": "performance.measured.ttft_ms",
    "bound": "performance.bound",
    "fits": "performance.memory.fits",
    "evaluation_score": "evaluation.score",
    "evaluation": "evaluation.summary",
    "preflight_worst_l1": "preflight.worst_l1",
    "preflight_failed_ops": "preflight.failed_ops",
    "seconds": "seconds",
    "config_hash": "config_hash",
    "error": "error",
}


def write_result(folder: Path, result: dict[str, Any]) -> Path:
    """result.json in `folder`: a line per key and per key of its sections; json's own indent takes longer."""
    path = folder / RESULT_FILE
    write_atomically(path, _two_levels(result) + "\n")
    return path


def _two_levels(result: dict[str, Any]) -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and value:
            inner = (f"    {json.dumps(name)}: {json.dumps(each, allow_nan=False)}" for name, each in value.items())
            text = "{\n" + ",\n".join(inner) + "\n  }"
        else:
            text = json.dumps(value, allow_nan=False)
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}"


def look_up(tree: Any, path: str) -> Any:
    """The value at dotted `path` of nested mappings; None where there is none."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


@functools.cache
def environment() -> dict[str, Any]:
    """Versions and machine, without importing anything heavy; once per process, so do not change what is returned."""
    packages = ("tt-transformers-v2", "torch", "ttnn", "numpy", "numba", "hydra-core", "omegaconf")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Revision of the checkout this code runs from and whether it is clean, as this process first found it.

    None outside a checkout or without git.
    """
    root = project_dir()
    if root is None or not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return {
            "revision": revision,
            "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
