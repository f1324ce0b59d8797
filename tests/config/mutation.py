# SPDX-License-Identifier: Apache-2.0
"""Mutants of a module, made and tried by cosmic-ray in a copy of the checkout.

mutmut would be quicker, but it mutates no decorated function, and every check is one.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

# Replacements that change nothing: enums are as equal as they are the same, and no annotation is evaluated. A union of
# mappings has no other operator at all.
LEFT_OUT = (
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
    "core/ReplaceBinaryOperator_BitOr_.*",
)
SECONDS = 60  # a mutant that runs for longer than that counts as killed


@dataclass(frozen=True)
class Mutated:
    """What is mutated: a module under src/tt_transformers_v2, or one function of it, and the tests that concern it."""

    module: str
    tests: tuple[str, ...]
    function: str | None = None

    @property
    def path(self) -> str:
        return f"src/tt_transformers_v2/{self.module}"

    def lines(self) -> str:
        """Of the function, or of the whole module."""
        tree = ast.parse((ROOT / self.path).read_text(encoding="utf-8"))
        if self.function is None:
            return f"1-{tree.body[-1].end_lineno}"
        (node,) = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == self.function]
        return f"{node.lineno}-{node.end_lineno}"


@dataclass(frozen=True, order=True)
class Mutant:
    """A changed line, or a decorator left out (`becomes` is then empty)."""

    module: str
    line: str
    becomes: str


def copy_of_the_checkout(folder: Path) -> Path:
    """The files that the tests of configuration read; mutants are written there and never in the checkout."""
    for name in ("src", "conf", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def command(tests: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]


def run(copy: Path, *arguments: str) -> str:
    """What a command prints, which must succeed."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(arguments, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cosmic_ray(copy: Path, module: str, *arguments: str) -> str:
    return run(copy, sys.executable, "-m", f"cosmic_ray.{module}", *arguments)


def tried(copy: Path, mutated: Mutated) -> list[tuple[Mutant, bool]]:
    """Every mutant, and whether the tests kill it; equal lines make equal mutants. Unmutated, the tests must pass."""
    run(copy, *command(mutated.tests))
    name = f"{Path(mutated.module).stem}-{mutated.function or 'all'}"
    config, session = copy / f"{name}.toml", f"{name}.sqlite"
    config.write_text(
        f"""[cosmic-ray]
module-path = "{mutated.path}"
timeout = {SECONDS}.0
excluded-modules = []
test-command = {json.dumps(" ".join(command(mutated.tests)))}
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = {json.dumps(LEFT_OUT)}
[cosmic-ray.filters.line-filter.lines]
"{mutated.path}" = "{mutated.lines()}"
"""
    )
    cosmic_ray(copy, "cli", "init", config.name, session)
    cosmic_ray(copy, "tools.filters.operators_filter", session, config.name)
    cosmic_ray(copy, "tools.filters.line_filter", session, "--config", config.name)
    cosmic_ray(copy, "cli", "exec", config.name, session)
    results = [json.loads(line)[1] for line in cosmic_ray(copy, "cli", "dump", session).splitlines()]
    return [_mutant(mutated.module, each) for each in results if each["worker_outcome"] != "skipped"]


def _mutant(module: str, result: dict) -> tuple[Mutant, bool]:
    assert result["worker_outcome"] == "normal", result
    changed = [line for line in result["diff"].splitlines() if not line.startswith(("---", "+++"))]
    before, after = (" ".join(" ".join(line[1:] for line in changed if line.startswith(sign)).split()) for sign in "-+")
    return Mutant(module, before, after), result["test_outcome"] == "killed"
