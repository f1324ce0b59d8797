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
from .conf_folders import add_conf_dir, conf_dir, refuse_files
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
    """Adds a folder of configuration groups that a user named.

    A file that reaches for Hydra's settings raises ConfigError where it is used (`refuse_files`). Raises ConfigError at
    once for what Hydra would come to by itself: options of its own groups, another conf/config.yaml.
    """
    add_conf_dir(folder)
    at_once, when_used = _problems(folder)
    raise_all(list(at_once.values()))
    refuse_files({path.resolve(): problem for path, problem in when_used.items()})


def check_own_files(folder: Path) -> None:
    """Raises ConfigError where any YAML under `folder`, which a user added, reaches for Hydra's settings."""
    at_once, when_used = _problems(folder)
    found = at_once | when_used
    raise_all([found[path] for path in sorted(found)])


def _problems(folder: Path) -> tuple[dict[Path, ConfigError], dict[Path, ConfigError]]:
    """The files that may not be in a folder of options, and those that may not be used as one, with the reasons."""
    at_once: dict[Path, ConfigError] = {}
    when_used: dict[Path, ConfigError] = {}
    for path in _files(folder):
        try:
            _check_place(path, folder)
        except ConfigError as problem:
            at_once[path] = problem
            continue
        try:
            _check_content(path)
        except ConfigError as problem:
            when_used[path] = problem
    return at_once, when_used


def _files(folder: Path) -> list[Path]:
    """The YAML files that options can come from. Hidden folders hold none; a run's own .hydra is one of them."""
    found = (path for suffix in ("*.yaml", "*.yml") for path in folder.rglob(suffix))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _check_place(path: Path, folder: Path) -> None:
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, too large for a configuration file.")
    if "hydra" in path.relative_to(folder).parts[:-1]:
        raise ConfigError(f"{path} is an option of Hydra's own groups, which cannot be changed.", "Remove it.")
    if path == folder / _ROOT_FILE and not _is_ours(path):
        raise ConfigError(f"{path} would replace conf/config.yaml.", "Put your defaults in experiment/NAME.yaml.")


def _is_ours(path: Path) -> bool:
    """Whether it is conf/config.yaml, of which every sweep has a copy."""
    return path.name == _ROOT_FILE and path.read_bytes() == (conf_dir() / _ROOT_FILE).read_bytes()


def _check_content(path: Path) -> None:
    if _is_ours(path):
        return
    try:
        text, content = read_yaml_file(path)
    except ConfigError:
        # Said when it is chosen. Hydra's parser is not quite ours, so what might name Hydra is refused at once.
        if any(mark in path.read_bytes() for mark in (b"hydra", b"\\")):
            raise
        return
    for where in _reaches(text, content):
        raise ConfigError(f"{path}: {where} changes Hydra's settings.", _advice(content))


def _advice(content: Any) -> str:
    """What to do about a file that sets keys of Hydra's: type those that can be typed, remove the others."""
    block = content.get("hydra") if isinstance(content, dict) else None
    keys = [f"hydra.{path}" for path in _leaf_paths(block)] if isinstance(block, dict) else []
    typed = [key for key in keys if key in _SETTINGS]
    removed = [key for key in keys if key not in _SETTINGS]
    parts = [f"Remove {', '.join(removed)}." if removed else ""]
    parts.append(f"Type {' '.join(f'{key}=…' for key in typed)} on the command line instead." if typed else "")
    return " ".join(part for part in parts if part) or "Remove it."


def _leaf_paths(tree: Any) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from (f"{key}.{inner}" for inner in _leaf_paths(value))
        else:
            yield str(key)


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
