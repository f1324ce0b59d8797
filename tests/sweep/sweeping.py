# SPDX-License-Identifier: Apache-2.0
"""Helpers of the sweep tests: small sweeps run in this process or as a user runs them, and their tables read back."""

import csv
import json
import os
import subprocess
import sys

from places import ROOT
from tt_transformers_v2.report import write_report
from tt_transformers_v2.sweep import engine


def run_sweep(overrides, folder):
    """The exit code of a sweep, run in this process, with its report."""
    return engine.run_sweep(overrides, folder, write_report)


def sweep(folder, *overrides):
    """The exit code of a sweep of predictions, run in this process."""
    given = {text.partition("=")[0] for text in overrides}
    model = [] if "model" in given else ["model=llama1b"]
    return run_sweep(["task=performance", *model, *overrides], folder)


def command_line(*arguments, cwd=ROOT, **environment):
    """A whole process, as a user starts it."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "run.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=dict(os.environ) | environment,
        timeout=300,
    )


def rows(folder):
    """results.csv as dicts."""
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def lines(folder):
    """results.jsonl as dicts."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def table(folder):
    """results.csv without what differs from run to run."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(folder)]


def results(folder):
    """Folder name -> result.json, for every job that left one."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))}


def left_over(folder):
    """Files that only a process at work may have."""
    return [path for path in folder.rglob(".*") if path.name != ".gitkeep"]
