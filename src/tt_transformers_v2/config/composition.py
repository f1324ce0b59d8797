# SPDX-License-Identifier: Apache-2.0
"""How conf/ is composed: the same files for the command line and for Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from .conf_folders import conf_dirs, refused_files
from .overrides import Override, Overrides, check_each
from .precedence import set_path
from .quick_composition import Choice, Composed, NotCovered, compose_choices
from .resolvers import register_resolvers

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose(overrides: Overrides | Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as a plain nested dict, the caller's to change; the schema's own defaults are left
    out of it.

    `overrides` are checked here where they are texts. Raises ConfigError for what cannot be composed.
    """
    return compose_with_origins(overrides).tree


def compose_with_origins(overrides: Overrides | Sequence[str] = ()) -> Composed:
    """As `compose`, and the file under conf/ that set each value; no files where only Hydra can compose them."""
    checked = overrides if isinstance(overrides, Overrides) else check_each(overrides)
    values = [item for item in checked.items if not item.is_setting]
    try:
        composed = compose_choices(conf_dirs(), _choices(values))
    except NotCovered:
        return Composed(_composed_by_hydra(checked))
    if composed.interpolates or any(item.interpolates for item in values):
        return Composed(_composed_by_hydra(checked), composed.origins)
    for item in values:
        if not item.is_choice:
            set_path(composed.tree, item.key, item.value)
    return composed


def _choices(items: Iterable[Override]) -> dict[str, Choice]:
    """Group -> the option chosen, several of them, or none."""
    chosen = {item.key: item.value for item in items if item.is_choice}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}


def refuse_reached(overrides: Overrides) -> None:
    """Raises the problem of one of `refused_files` where Hydra would come to it by these overrides.

    Hydra acts on a `hydra:` block while it composes, so this is asked first; where only Hydra could tell which files
    there are, any such file is refused.
    """
    fixed = Overrides(tuple(item for item in overrides.items if item.sweep is None))
    for asked in (fixed, overrides.first_points):
        try:
            compose_choices(conf_dirs(), _choices(asked.items))
        except NotCovered:
            raise next(iter(refused_files().values())) from None


def in_one_line(error: Exception) -> str:
    """A Hydra message without its advice to append with `+`, which would hide a typo."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith("To append to your config")]
    return " ".join(kept[:2]) or type(error).__name__


def _composed_by_hydra(overrides: Overrides) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    composed = compose_by_hydra(Overrides(tuple(item for item in overrides.items if not item.is_setting)).hydra_texts)
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise ConfigError(in_one_line(error)) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose_by_hydra(overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes, typed by the schema: `OmegaConf.to_object` makes an ExperimentConfig of it.

    Raises ConfigError in place of Hydra's and OmegaConf's own exceptions.
    """
    import yaml
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with opened_hydra():
            return hydra_compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(in_one_line(error)) from None


@contextmanager
def opened_hydra() -> Iterator[Any]:
    """Hydra on the configuration folders of this context, also while another Hydra application is running.

    hydra_plugins.tt_transformers.search_path adds those besides the last.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    with _own_hydra(), initialize_config_dir(config_dir=str(conf_dirs()[-1]), job_name="run", **hydra_base()):
        yield GlobalHydra.instance().hydra


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
