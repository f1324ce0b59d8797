# SPDX-License-Identifier: Apache-2.0
"""What conf/ offers: groups, their options, the defaults, and the other names that options go by."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from .conf_folders import conf_dirs, read_yaml, remembered
from .quick_composition import check_option

# Groups of which several options may be chosen at once, the later winning, and whose options may lie in folders.
SEVERAL = ("experiment",)
# Folders of conf/ that hold facts and no options.
_NO_GROUPS = ("chip", "rules", "measurements", "provenance", "ttnn")


def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> its options, sorted, as the folders of conf/ say. Groups nobody chooses from are left out."""
    return _groups(conf_dirs())


@remembered
def _groups(roots: tuple[Path, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for root in roots:
        for folder in (path for path in root.iterdir() if path.is_dir() and path.name not in _NO_GROUPS):
            found.setdefault(folder.name, set()).update(_options(folder))
    chosen = {name for entry in _root_entries(read_yaml("config.yaml")) for name in entry}
    return {name: tuple(sorted(options)) for name, options in sorted(found.items()) if options or name in chosen}


def _options(folder: Path) -> Iterator[str]:
    """The options that a folder has: files, and for groups that may be nested files of folders in it, as mine/first."""
    for path in folder.rglob("*.yaml") if folder.name in SEVERAL else folder.glob("*.yaml"):
        yield path.relative_to(folder).with_suffix("").as_posix()


def default_options() -> dict[str, str]:
    """Group -> the option that conf/config.yaml chooses; groups without a default are left out."""
    pairs = [pair for entry in _root_entries(read_yaml("config.yaml")) for pair in entry.items()]
    return {str(key): value for key, value in pairs if key in groups() and isinstance(value, str)}


def _root_entries(root: Any) -> list[dict[str, Any]]:
    """The entries GROUP: OPTION of a defaults list."""
    return [entry for entry in root["defaults"] if isinstance(entry, dict)]


def device_types() -> dict[str, str]:
    """Device type -> option of the device group that describes it."""
    return _device_types(conf_dirs())


@remembered
def _device_types(roots: tuple[Path, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in groups()["device"]:
        described = _described("device", name)
        found.setdefault(str(described.get("device_type", name)), name)
    return found


def aliases(group: str) -> dict[str, str]:
    """Other names of the options of a group, folded -> option: device types and aliases, model names and hf_ids.

    A name that two options claim belongs to the first.
    """
    return _aliases(group, conf_dirs())


@remembered
def _aliases(group: str, roots: tuple[Path, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in groups()[group]:
        described = _described(group, name)
        aliases = described.get("aliases")
        names = [described.get(key) for key in ("device_type", "name", "hf_id")]
        for other in names + (aliases if isinstance(aliases, list) else []):
            if other:
                found.setdefault(str(other).casefold(), name)
    return found


def _by_other_name(group: str, name: str) -> str | None:
    """The option that another name means, with `-`, `_`, a space or (for models) a dot between its parts; a hub id may
    be that of the base model, of the same organisation as the file's."""
    known = aliases(group)
    if name.casefold() in known:
        return known[name.casefold()]
    organisation, slash, rest = name.casefold().rpartition("/")
    found = _folded(group, conf_dirs()).get(_fold(group, rest if group == "model" else name))
    if found is None or not slash:
        return found
    hub_id = str(_described(group, found).get("hf_id") or "").casefold()
    return found if hub_id.startswith(f"{organisation}/") else None


@remembered
def _folded(group: str, roots: tuple[Path, ...]) -> dict[str, str]:
    """Names of options and their aliases without what is written in several ways -> option; those of two left out."""
    found: dict[str, set[str]] = {}
    for name, meant in (*aliases(group).items(), *((each, each) for each in groups()[group])):
        found.setdefault(_fold(group, name), set()).add(meant)
    return {name: next(iter(options)) for name, options in found.items() if len(options) == 1}


def _fold(group: str, name: str) -> str:
    if group == "model":
        return re.sub(r"[-_. ]+", "-", name.casefold())
    return re.sub(r"[-_ ]+", "", re.sub(r"^(tt|tenstorrent)[-_ ]+", "", name.casefold()))


_MESH = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
_MOST_NEAR = 3


def _no_device(name: str) -> ConfigError:
    """The error for a name that no device has: the devices with that mesh, in which it occurs, or that are alike."""
    shape = _MESH.fullmatch(name.strip())
    if shape is not None:
        chips = int(shape[1]) * int(shape[2])
        alike = [each for each in groups()["device"] if math.prod(_described("device", each)["mesh_shape"]) == chips]
        what = f"{name} is a mesh of {chips} chips, not a device."
        if not alike:
            return ConfigError(what, f"choices: {', '.join(groups()['device'])}")
        given = f"device.mesh_shape=[{shape[1]},{shape[2]}]"
        return ConfigError(what, f"Choose device={' or '.join(alike)}; {given} sets the shape.")
    wanted = _fold("device", name)
    names = _folded("device", conf_dirs())
    within = dict.fromkeys(meant for other, meant in names.items() if len(wanted) > 1 and wanted in other)
    near = difflib.get_close_matches(wanted, names, n=_MOST_NEAR, cutoff=0.6)
    found = list(within)[:_MOST_NEAR] or list(dict.fromkeys(names[each] for each in near))
    choices = f"choices: {', '.join(groups()['device'])}"
    asked = f"Did you mean device={' or '.join(found)}? " if found else ""
    return ConfigError(f"no device named {name!r}.", asked + choices)


def _described(group: str, name: str) -> dict[str, Any]:
    """What the file of an option says of itself; nothing where it is broken, which is said when it is chosen."""
    try:
        tree = read_yaml(f"{group}/{name}.yaml")
    except ConfigError:
        return {}
    if group == "device" and isinstance(tree, dict):
        tree = tree.get("device")
    return tree if isinstance(tree, dict) else {}


def option(group: str, name: str) -> str:
    """The option of `group` that `name` means: by file name, or by alias, in any case.

    Raises ConfigError otherwise, with the nearest one or the reason why a known model is refused.
    """
    choices = groups()[group]
    for choice in choices:
        if choice.casefold() == name.casefold():
            check_option(conf_dirs(), group, choice)
            return choice
    if group in ("device", "model") and (meant := _by_other_name(group, name)) is not None:
        return meant
    if group == "device":
        raise _no_device(name)
    if group == "model":
        from .refused_models import refuse
        from .similar_models import suggestion

        refuse(name)
        known = {choice: choice for choice in choices if choice != "hf"} | aliases(group)
        raise ConfigError(f"no model named {name!r}.", suggestion(name, known))
    hint = did_you_mean(name, choices, f"{group}=") if choices else f"Add {group}/{name}.yaml by --config-dir DIR."
    raise ConfigError(f"no {group} named {name!r}.", hint)
