# SPDX-License-Identifier: Apache-2.0
"""Completion in the shell (-sc, Hydra's flag): what can stand where the cursor is.

Hydra's own completion knows option names and the current value of a key. This one reads the schema, so that it offers
every value a key can take, completes the last of several values, and loads no configuration for it.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.checked import UNIONS, field_types
from ..common.errors import ConfigError
from ..config.building import nested_dataclass
from ..config.composition import compose
from ..config.conf_folders import add_conf_dir
from ..config.groups import groups
from ..config.hydra_settings import settings
from ..config.overrides import OPTIONAL_GROUPS
from ..config.schema_keys import annotation_of

FLAGS = ("-sc", "--shell-completion")
# As Hydra has it: a value that begins like this is a path.
_PATHS = ("/", "./", "../", "~/")
_BEFORE_A_PATH = ("--config-dir", "-cd", "--out", "--plot")
_SHELLS = {"bash": " ", "zsh": " ", "fish": "\n"}  # and what separates candidates


def answer(given: Sequence[str], flags: Sequence[str], *, overrides: bool) -> None:
    """Prints what the shell asked for: `query=SHELL` the candidates, `install=SHELL` and `uninstall=SHELL` a script.

    `flags` are the command's own options; with `overrides` it takes those too. Raises ConfigError for other questions.
    """
    question, _, shell = (given[1] if len(given) == 2 else "").partition("=")
    if shell not in _SHELLS or question not in ("query", "install", "uninstall"):
        hint = f"Write -sc install=SHELL, where SHELL is one of {', '.join(_SHELLS)}."
        raise ConfigError(f"cannot read {' '.join(given)!r}.", hint)
    if question != "query":
        _script(question, shell)
        return
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    line = line[: int(point)] if point.isdigit() else line
    print(_SHELLS[shell].join(candidates(line, flags, overrides=overrides)))


def _script(question: str, shell: str) -> None:
    """Hydra's own script for the shell, which calls the command with query=SHELL."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra._internal.core_plugins.fish_completion import FishCompletion

    plugin = FishCompletion if shell == "fish" else BashCompletion
    getattr(plugin(typing.cast(Any, None)), question)()


def candidates(line: str, flags: Sequence[str], *, overrides: bool = True) -> list[str]:
    """Words that can stand at the end of the command line `line`, sorted; the command itself is its first word."""
    words = line.split()
    _add_own_folder(words)
    word = words[-1] if words and not line[-1].isspace() else ""
    before = words[-1:] if not word else words[-2:-1]
    if word.startswith("-"):
        found = list(flags)
    elif not overrides or (before and before[0] in _BEFORE_A_PATH):
        found = []  # the shell then completes files
    elif "=" in word:
        found = _values(word, words)
    else:
        found = _keys(word)
    return sorted({each for each in found if each.startswith(word)})


def _add_own_folder(words: Sequence[str]) -> None:
    """The options of a folder that --config-dir names on the line are offered too."""
    for flag, folder in itertools.pairwise(words):
        if flag in ("--config-dir", "-cd"):
            with contextlib.suppress(ConfigError):
                add_conf_dir(Path(folder))


def _keys(word: str) -> list[str]:
    """Keys and groups below the last dot of `word`: `key=`, `section.` and `group=`."""
    if word.split(".")[0].split("/")[0] == "hydra":
        return [f"{key}=" for key in settings()]
    prefix = word.rpartition(".")[0]
    if not prefix:
        return [*(f"{group}=" for group in groups() if "/" not in group), "hydra.", *_fields(annotation_of(""), "")]
    return _fields(annotation_of(prefix), f"{prefix}.")


def _fields(annotation: Any, prefix: str) -> list[str]:
    cls = nested_dataclass(annotation)
    if cls is None:
        return []
    ends = {name: "." if nested_dataclass(inner) is not None else "=" for name, inner in field_types(cls).items()}
    return [f"{prefix}{name}{end}" for name, end in ends.items()]


def _values(word: str, words: Sequence[str]) -> list[str]:
    """`key=value` for every value; after a comma, with --multirun, those that are not there yet."""
    key, _, value = word.partition("=")
    taken, comma, last = value.rpartition(",") if {"-m", "--multirun"} & set(words) else ("", "", value)
    if last.startswith(_PATHS):
        return [f"{key}={taken}{comma}{path}" for path in _files(last)]
    there = set(taken.split(","))
    return [f"{key}={taken}{comma}{each}" for each in _choices(key, words) if each not in there]


def _choices(key: str, words: Sequence[str]) -> list[str]:
    """The values of a group, of a setting of Hydra's, or of a key: all there are, or the one it has."""
    if key in groups():
        more = {"device": ["auto"]}.get(key, [])
        return [*groups()[key], *more, *(["null"] if key in OPTIONAL_GROUPS else [])]
    if key in settings():
        return list(settings()[key] or ())
    annotation = annotation_of(key)
    optional = typing.get_origin(annotation) in UNIONS
    kinds = [kind for kind in (typing.get_args(annotation) if optional else (annotation,)) if kind is not type(None)]
    if len(kinds) == 1 and kinds[0] is bool:
        found = ["true", "false"]
    elif len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], enum.Enum):
        found = [str(member.value) for member in kinds[0]]
    else:
        return _current(key, words) if annotation is not None else []
    return [*found, *(["null"] if optional else [])]


def _current(key: str, words: Sequence[str]) -> list[str]:
    """The value that a plain key has in conf/, with the groups that stand on the line already."""
    chosen = [word for word in words[:-1] if word.partition("=")[0] in groups() and "," not in word]
    try:
        tree: Any = compose(chosen)
    except ConfigError:
        return []
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return [str(tree)] if isinstance(tree, (int, float, str)) else []


def _files(start: str) -> list[str]:
    folder, _, name = start.rpartition("/")
    try:
        entries = os.listdir(os.path.expanduser(folder or "/"))
    except OSError:
        return []
    return [f"{folder}/{entry}" for entry in entries if entry.startswith(name)]
