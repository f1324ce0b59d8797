# SPDX-License-Identifier: Apache-2.0
"""Where conf/ is, what it offers, and how Hydra composes it: the same files for the command line and for Python."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError, did_you_mean
from .fast_composition import Composed, NotCovered, check_option, compose_choices, read_yaml_file
from .typed import set_path

PACKAGE = Path(__file__).resolve().parent.parent


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
    return tuple(_frozen_dirs) or (*_added_dirs, conf_dir())


_added_dirs: list[Path] = []
_frozen_dirs: list[Path] = []


def add_conf_dir(folder: Path) -> None:
    """Adds a folder of configuration groups of the user's own (what --config-dir names). Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(f"the configuration folder {folder} does not exist.")
    if folder.resolve() not in _added_dirs:
        _added_dirs.append(folder.resolve())
        _forget_listings()


def use_only(folders: Sequence[Path]) -> None:
    """From now on reads configuration groups from `folders` alone; none of them: from the usual ones again."""
    if list(folders) != _frozen_dirs:
        _frozen_dirs[:] = folders
        _forget_listings()


def _forget_listings() -> None:
    for cached in (groups, device_types, aliases):
        cached.cache_clear()


def project_dir() -> Path | None:
    """The root of the checkout this code runs from, or None when it is installed elsewhere."""
    root = PACKAGE.parent.parent
    return root if (root / "conf" / "config.yaml").is_file() and (root / "pyproject.toml").is_file() else None


def outputs_dir() -> Path:
    """Where results go: the checkout's outputs/, or ./outputs for an installed package."""
    return (project_dir() or Path.cwd()) / "outputs"


def register_resolvers() -> None:
    """Teaches OmegaConf the `${tt_outputs:}`, `${tt_groups:}` and `${tt_command:run}` of conf/config.yaml."""
    from omegaconf import OmegaConf

    from .command_names import command
    from .option_texts import listing

    # OmegaConf 2.4 warns of the older name; before it, the newer one means something else.
    renamed = "replace" in inspect.signature(OmegaConf.register_resolver).parameters
    register: Any = OmegaConf.register_resolver if renamed else OmegaConf.register_new_resolver
    register("tt_outputs", lambda: str(outputs_dir()), replace=True)
    register("tt_groups", listing, replace=True)
    register("tt_command", command, replace=True)


# Folders of conf/ that hold facts and no options.
_NO_GROUPS = ("chip", "rules", "measurements", "ttnn")


@functools.cache
def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> its options, sorted, as the folders of conf/ say. Groups nobody chooses from are left out."""
    found: dict[str, set[str]] = {}
    for root in conf_dirs():
        for folder in (path for path in root.iterdir() if path.is_dir() and path.name not in _NO_GROUPS):
            found.setdefault(folder.name, set()).update(path.stem for path in folder.glob("*.yaml"))
    return {name: tuple(sorted(options)) for name, options in sorted(found.items()) if options}


def default_options() -> dict[str, str]:
    """Group -> the option that conf/config.yaml chooses; groups without a default are left out."""
    entries = read_yaml("config.yaml")["defaults"]
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return {str(key): value for key, value in pairs if key in groups() and isinstance(value, str)}


@functools.cache
def device_types() -> dict[str, str]:
    """Device type -> option of the device group that describes it."""
    found: dict[str, str] = {}
    for name in groups()["device"]:
        described = (read_yaml(f"device/{name}.yaml") or {}).get("device") or {}
        found.setdefault(str(described.get("device_type", name)), name)
    return found


@functools.cache
def aliases(group: str) -> dict[str, str]:
    """Other names of the options of a group, folded -> option: device types and aliases, model names and hf_ids.

    A name that two options claim belongs to the first.
    """
    found: dict[str, str] = {}
    for name in groups()[group]:
        tree = read_yaml(f"{group}/{name}.yaml") or {}
        if not isinstance(tree, dict):
            continue  # said when it is chosen
        described = tree.get("device") or {} if group == "device" else tree
        names = [described.get(key) for key in ("device_type", "name", "hf_id")] + list(described.get("aliases") or [])
        for other in names:
            if other:
                found.setdefault(str(other).casefold(), name)
    return found


def option(group: str, name: str) -> str:
    """The option of `group` that `name` means: by file name, or by alias, in any case.

    Raises ConfigError otherwise, with the nearest one or the reason why a known model is refused.
    """
    choices = groups()[group]
    for choice in choices:
        if choice.casefold() == name.casefold():
            check_option(conf_dirs(), group, choice)
            return choice
    if group in ("device", "model") and name.casefold() in aliases(group):
        return aliases(group)[name.casefold()]
    if group == "model":
        from .refused import refuse

        refuse(name)
    raise ConfigError(f"no {group} named {name!r}.", did_you_mean(name, choices, f"{group}="))


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as a plain nested dict, the caller's to change.

    `overrides` are checked ones (experiments.overrides). Raises ConfigError for what cannot be composed.
    """
    return compose_with_origins(overrides).tree


def compose_with_origins(overrides: Sequence[str] = ()) -> Composed:
    """As `compose`, and the file under conf/ that set each value; where Hydra had to compose, the origins are empty."""
    choices: dict[str, str | None] = {}
    values: dict[str, Any] = {}
    for text in overrides:
        key, value = parse_override(text)
        if key in groups():
            choices[key] = value
        else:
            values[key] = value
    try:
        if any("${" in text for text in overrides):
            raise NotCovered("interpolation")
        composed = compose_choices(conf_dirs(), choices)
    except NotCovered:
        return Composed(_composed_by_hydra(overrides))
    for key, value in values.items():
        set_path(composed.tree, key, value)
    return composed


@functools.lru_cache(maxsize=65536)
def parse_override(text: str) -> tuple[str, Any]:
    """Key and plain value of one override that is no sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(text)
    return str(override.key_or_group), plain_value(override.value())


def plain_value(value: Any) -> Any:
    """Hydra's quoted strings as str, containers element by element."""
    if hasattr(value, "text"):
        return str(value.text)
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(plain_value(key)): plain_value(item) for key, item in value.items()}
    return value


def in_one_line(error: Exception) -> str:
    """A Hydra message without its advice to append with `+`, which would hide a typo."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith("To append to your config")]
    return " ".join(kept[:2]) or type(error).__name__


def _composed_by_hydra(overrides: Sequence[str]) -> dict[str, Any]:
    """What Hydra composes. Raises ConfigError in place of Hydra's and OmegaConf's own exceptions."""
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return _hydras_tree(overrides)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(in_one_line(error)) from None


def _hydras_tree(overrides: Sequence[str]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    register_resolvers()
    *added, main = conf_dirs()
    search = [f"hydra.searchpath={json.dumps([f'file://{folder}' for folder in added])}"] if added else []
    with _own_hydra(), initialize_config_dir(config_dir=str(main), **hydra_base()):
        composed = hydra_compose("config", overrides=[*overrides, *search])
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def hydra_base() -> dict[str, Any]:
    """The defaults of Hydra that conf/ was written for: those of 1.3, which later ones take for granted and warn of."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Lets Python code compose while a Hydra application (perhaps this one's own job) is running."""
    from hydra.core.global_hydra import GlobalHydra

    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)


def read_yaml(relative: str) -> Any:
    """A data file under the conf folders, parsed once per process; do not change what is returned."""
    found = next((root / relative for root in conf_dirs() if (root / relative).is_file()), conf_dirs()[-1] / relative)
    return _read_yaml(found)


@functools.cache
def _read_yaml(path: Path) -> Any:
    return read_yaml_file(path)[1]
