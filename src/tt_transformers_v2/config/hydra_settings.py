# SPDX-License-Identifier: Apache-2.0
"""Keeps configurations from running code: of Hydra's own settings and flags only those pass that place a run's files.

Hydra instantiates whatever class `hydra.callbacks`, `hydra.launcher`, `hydra.sweeper` and the log handlers name, sets
environment variables from `hydra.job.env_set`, and `--experimental-rerun` loads a pickle.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from .building import raise_all
from .conf_folders import add_conf_dir, conf_dir
from .yaml_files import read_yaml_file

# Key -> what its value may be; None for anything that Hydra takes as text, a number or a flag.
_SETTINGS: dict[str, tuple[str, ...] | None] = {
    "hydra.run.dir": None,
    "hydra.sweep.dir": None,
    "hydra.sweep.subdir": None,
    "hydra.output_subdir": None,
    "hydra.job.name": None,
    "hydra.verbose": None,
    "hydra/sweeper": ("tt_transformers",),
    "hydra/launcher": ("basic",),
}
# These become folders inside the one that the user chose, so they must stay there.
_INSIDE = ("hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.name")
_PACKAGE = re.compile(r"^\s*#\s*@package\s+(\S+)", re.MULTILINE)
_MOST_BYTES = 1 << 20
_ROOT_FILE = "config.yaml"


def settings() -> dict[str, tuple[str, ...] | None]:
    """The settings of Hydra's that can be changed, with their values; None where any text will do."""
    return dict(_SETTINGS)


def check_setting(text: str, key: str, values: list[Any]) -> None:
    """Raises ConfigError for an override `text` of a setting of Hydra's that could run code or leave the run's folder.

    `values` are the plain values that it gives `key`.
    """
    if key not in _SETTINGS:
        raise ConfigError(
            f"{text!r}: {key} is a Hydra setting that cannot be changed here.",
            did_you_mean(key, _SETTINGS, "") or f"Settings that can be changed: {', '.join(_SETTINGS)}.",
        )
    choices = _SETTINGS[key]
    for value in values:
        if choices is not None and value not in choices:
            raise ConfigError(f"{text!r}: {key} must be {' or '.join(choices)}.", _launcher_hint(key))
        if isinstance(value, (dict, list)):
            raise ConfigError(f"{text!r}: {key} takes one value.")
        if key in _INSIDE and _leaves(str(value)):
            raise ConfigError(f"{text!r} points outside the run's folder.", "Use a plain name, or set hydra.run.dir.")


def _launcher_hint(key: str) -> str:
    return "For other launchers, use launcher=joblib, submitit_local or ray." if key == "hydra/launcher" else ""


def _leaves(value: str) -> bool:
    path = PurePosixPath(value)
    return path.is_absolute() or ".." in path.parts


def check_flags(options: argparse.Namespace) -> None:
    """Raises ConfigError for Hydra's flags that load a pickle, replace conf/ altogether or cannot be combined."""
    if getattr(options, "experimental_rerun", None):
        raise ConfigError(
            "--experimental-rerun loads a pickle, which can run code.",
            "Run again with the `overrides` of its result.json.",
        )
    for name in ("config_path", "config_name"):
        if getattr(options, name, None):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} would replace conf/config.yaml.", "Add your own options with --config-dir DIR.")
    asked = [f"--{name}" for name in ("run", "multirun", "cfg", "info") if getattr(options, name, None)]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)} cannot be combined.", f"Leave out {asked[0]}.")
    for name in ("package", "resolve"):
        if getattr(options, name, None) and not getattr(options, "cfg", None):
            raise ConfigError(f"--{name} applies only to --cfg.", "Add --cfg job.")


def use_own_folder(folder: Path) -> None:
    """Adds a folder of configuration groups that a user named. Raises ConfigError as `check_own_files` does."""
    add_conf_dir(folder)
    check_own_files(folder)


def check_own_files(folder: Path) -> None:
    """Raises ConfigError where YAML under `folder`, which a user added, reaches for Hydra's settings."""
    problems = []
    for path in _files(folder):
        try:
            _check_file(path, folder)
        except ConfigError as problem:
            problems.append(problem)
    raise_all(problems)


def _files(folder: Path) -> list[Path]:
    """The YAML files that options can come from. Hidden folders hold none; a run's own .hydra is one of them."""
    found = (path for suffix in ("*.yaml", "*.yml") for path in folder.rglob(suffix))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _check_file(path: Path, folder: Path) -> None:
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, too large for a configuration file.")
    if "hydra" in path.relative_to(folder).parts[:-1]:
        raise ConfigError(f"{path} is an option of Hydra's own groups, which cannot be changed.", "Remove it.")
    if path.name == _ROOT_FILE and path.read_bytes() == (conf_dir() / _ROOT_FILE).read_bytes():
        return  # a sweep's copy of ours
    if path == folder / _ROOT_FILE:
        raise ConfigError(f"{path} would replace conf/config.yaml.", "Put your defaults in experiment/NAME.yaml.")
    try:
        text, content = read_yaml_file(path)
    except ConfigError:
        # Said when it is chosen. Hydra's parser is not quite ours, so what might name Hydra is refused at once.
        if any(mark in path.read_bytes() for mark in (b"hydra", b"\\")):
            raise
        return
    for where in _reaches(text, content):
        raise ConfigError(f"{path}: {where} changes Hydra's settings.", "Set hydra.run.dir on the command line.")


def _reaches(text: str, content: Any) -> Iterator[str]:
    """What in a file lands under `hydra`: its package, a top key, or an entry of its defaults list."""
    for package in _PACKAGE.findall(text):
        if package.split(".")[0] == "hydra":
            yield f"@package {package}"
    if not isinstance(content, dict):
        return
    for key in content:
        if str(key).split(".")[0] == "hydra":
            yield f"key {key}"
    defaults = content.get("defaults")
    for entry in defaults if isinstance(defaults, list) else [defaults]:
        # Any mention: a group of Hydra's, or a file of ours put at a package of Hydra's.
        if "hydra" in str(entry):
            yield f"defaults entry {entry}"
