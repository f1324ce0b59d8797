# SPDX-License-Identifier: Apache-2.0
"""The folders that configuration groups are read from: conf/ itself, those a user added, or a sweep's frozen copies.

They belong to the context that a command or a job runs in (`contextvars`), so that nothing outlives it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, TypeVar

from ..common.checkout import PACKAGE
from ..common.errors import ConfigError
from .yaml_files import read_yaml_file

T = TypeVar("T")

_readers: list[Any] = []
_used: dict[Path, tuple[int, int] | None] = {}

_added: ContextVar[tuple[Path, ...]] = ContextVar("added configuration folders", default=())
_refused: ContextVar[dict[Path, ConfigError] | None] = ContextVar("files that may not be used", default=None)
_frozen: ContextVar[tuple[Path, ...]] = ContextVar("a sweep's own configuration folders", default=())


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """`function`, which reads configuration files, asked once for the same arguments until `forget_files`."""
    cached = functools.lru_cache(maxsize=4096)(function)
    _readers.append(cached)
    return cached


def forget_files() -> None:
    """Lets every file be read anew: what stands at a path may no longer be what was read there."""
    for cached in _readers:
        cached.cache_clear()


@functools.cache
def conf_dir() -> Path:
    """The folder of configuration groups: inside an installed package, or at the root of a checkout."""
    for candidate in (PACKAGE / "conf", PACKAGE.parent.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError("the configuration folder conf/ is missing.", "Reinstall the package or run from a checkout.")


def conf_dirs() -> tuple[Path, ...]:
    """Folders of configuration groups, the first that has a file wins: those added by the user, then `conf_dir`.

    Within a sweep they are its frozen copies (`use_only`).
    """
    return _frozen.get() or (*_added.get(), conf_dir())


def own_folders() -> bool:
    """Whether the user has added folders of configuration groups."""
    return bool(_added.get())


def add_conf_dir(folder: Path) -> None:
    """Adds a folder of configuration groups of the user's own (what --config-dir names). Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(f"the configuration folder {folder} does not exist.")
    forget_files()
    if folder.resolve() not in _added.get():
        _added.set((*_added.get(), folder.resolve()))


def refuse_files(problems: dict[Path, ConfigError]) -> None:
    """Lets each of these files raise its problem where it is used, and only there."""
    if problems:
        forget_files()
        _refused.set({**refused_files(), **problems})


def refused_files() -> dict[Path, ConfigError]:
    """The files that `refuse_files` was told of, each with its problem."""
    return _refused.get() or {}


def use_only(folders: Sequence[Path]) -> None:
    """For the rest of this context, reads configuration groups from `folders` alone.

    What was read from another sweep's folder of the same name is forgotten.
    """
    states = {folder: _state(folder) for folder in folders}
    if any(_used.get(folder, state) != state for folder, state in states.items()):
        forget_files()
    _used.update(states)
    _frozen.set(tuple(folders))


def _state(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from a later one of its name: inode and time of change; None where there is none."""
    with contextlib.suppress(OSError):
        found = folder.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def in_own_context(function: Callable[..., T]) -> Callable[..., T]:
    """`function`, after which the folders are again those that there were before it."""

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> T:
        return copy_context().run(function, *args, **kwargs)

    return inside


def read_yaml(relative: str) -> Any:
    """A data file under the conf folders, parsed once; do not change what is returned."""
    found = next((root / relative for root in conf_dirs() if (root / relative).is_file()), conf_dirs()[-1] / relative)
    return _read_yaml(found)


@remembered
def _read_yaml(path: Path) -> Any:
    return read_yaml_file(path)[1]
