# SPDX-License-Identifier: Apache-2.0
"""What a job leaves behind: result.json, and a table over the jobs of a sweep. Files appear whole or not at all."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..common.checkout import project_dir
from ..common.errors import ConfigError
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


def read_results(sweep: Path) -> list[tuple[str, dict[str, Any]]]:
    """(folder name, result) of every job under `sweep`, in job order. Raises ConfigError for a broken result.json."""
    found = []
    for path in sorted(sweep.glob(f"*/{RESULT_FILE}"), key=lambda p: _job_order(p.parent.name)):
        try:
            found.append((path.parent.name, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a readable result: {error}.") from None
    return found


def _job_order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (sys.maxsize, name)


def table_rows(results: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """One flat row per job: its folder, what was overridden, and COLUMNS."""
    keys = list(dict.fromkeys(key for _, result in results for key in _overridden(result)))
    return [
        {"job": name}
        | {key: _overridden(result).get(key, "") for key in keys}
        | {column: _look_up(result, path) for column, path in COLUMNS.items()}
        for name, result in results
    ]


def write_table(sweep: Path) -> list[dict[str, Any]]:
    """results.csv in `sweep`, from the result.json files under it; returns its rows."""
    rows = table_rows(read_results(sweep))
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
        write_atomically(sweep / "results.csv", text.getvalue())
    return rows


def _overridden(result: dict[str, Any]) -> dict[str, str]:
    pairs = (str(text).partition("=") for text in result.get("overrides", []))
    return {key: value for key, _, value in pairs}


def _look_up(tree: Any, path: str) -> Any:
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
