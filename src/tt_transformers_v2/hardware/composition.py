# SPDX-License-Identifier: Apache-2.0
"""Where conf/ is, what it offers, and how Hydra composes it: the same files for the command line and for Python."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def conf_dir() -> Path:
    """The folder of configuration groups: inside an installed package, or at the root of a checkout."""
    for candidate in (PACKAGE / "conf", PACKAGE.parent.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError("the configuration folder conf/ is missing.", "Reinstall the package or run from a checkout.")


def project_dir() -> Path | None:
    """The root of the checkout this code runs from, or None when it is installed elsewhere."""
    root = PACKAGE.parent.parent
    return root if (root / "conf" / "config.yaml").is_file() and (root / "pyproject.toml").is_file() else None


def outputs_dir() -> Path:
    """Where results go: the checkout's outputs/, or ./outputs for an installed package."""
    return (project_dir() or Path.cwd()) / "outputs"


def register_resolvers() -> None:
    """Teaches OmegaConf the `${tt_outputs:}` and `${tt_groups:}` of conf/config.yaml."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("tt_outputs", lambda: str(outputs_dir()), replace=True)
    OmegaConf.register_new_resolver("tt_groups", _group_listing, replace=True)


def _group_listing() -> str:
    return "\n".join(f"  {name:12} {', '.join(options)}" for name, options in groups().items())


@functools.cache
def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> its options, sorted, as the folders of conf/ say. Groups nobody chooses from are left out."""
    root = conf_dir()
    found: dict[str, tuple[str, ...]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        options = sorted(path.stem for path in folder.glob("*.yaml"))
        if options and folder.name not in ("chip", "rules"):
            found[folder.name] = tuple(options)
    return found


@functools.cache
def device_types() -> dict[str, str]:
    """Device type -> option of the device group that describes it."""
    return {read_yaml(f"device/{name}.yaml")["device"]["device_type"]: name for name in groups()["device"]}


@functools.cache
def aliases(group: str) -> dict[str, str]:
    """Other names of the options of a group, folded -> option: device types and aliases, model names and hf_ids.

    A name that two options claim belongs to the first.
    """
    found: dict[str, str] = {}
    for name in groups()[group]:
        tree = read_yaml(f"{group}/{name}.yaml") or {}
        described = tree.get("device", {}) if group == "device" else tree
        names = [described.get(key) for key in ("device_type", "name", "hf_id")] + list(described.get("aliases") or [])
        for other in names:
            if other:
                found.setdefault(str(other).casefold(), name)
    return found


def option(group: str, name: str) -> str:
    """The option of `group` that `name` means: by file name, or by alias, in any case.

    Raises ConfigError with the nearest one otherwise.
    """
    choices = groups()[group]
    for choice in choices:
        if choice.casefold() == name.casefold():
            return choice
    if group in ("device", "model") and name.casefold() in aliases(group):
        return aliases(group)[name.casefold()]
    raise ConfigError(f"no {group} named {name!r}.", did_you_mean(name, choices, f"{group}="))


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as a plain nested dict, a fresh one at each call (cached by overrides).

    Raises hydra's and omegaconf's exceptions; `cli` and `experiments.configuration` turn them into ConfigError.
    """
    return copy.deepcopy(_composed(tuple(overrides)))


@functools.lru_cache(maxsize=1024)
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    register_resolvers()
    with _own_hydra(), initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        composed = hydra_compose("config", overrides=list(overrides))
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


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
    """A data file under conf/, parsed once per process; do not change what is returned."""
    return _read_yaml(conf_dir() / relative)


@functools.cache
def _read_yaml(path: Path) -> Any:
    import yaml

    with path.open(encoding="utf-8") as stream:
        return yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
