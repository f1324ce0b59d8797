# SPDX-License-Identifier: Apache-2.0
"""Overrides: parsed once by Hydra's grammar, checked once against groups and schema, and passed on as values.

Every mistake on a command line is told at once and named with its likely fix. Hydra alone would stop at the first,
accept `+devise=t3k` and run with defaults, let the last of `device=[t3k,n150]` win, and answer a typo by advising the
`+` that hides it.
"""

from __future__ import annotations

import contextlib
import functools
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..common.checked import coerce
from ..common.command_names import command
from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import Named
from .building import nested_dataclass, raise_all
from .conf_folders import conf_dirs, remembered
from .groups import SEVERAL, groups, option
from .hydra_settings import check_setting
from .override_grammar import elements_of, encoded, parse, plain_value
from .precedence import leaf_paths
from .schema_keys import annotation_of, is_free_form, root_keys, unknown_key

AUTO = "auto"  # the device that this machine is
OPTIONAL_GROUPS = ("experiment", "tuning")


@dataclass(frozen=True)
class Override:
    """One checked override.

    Attributes:
        text: as the user would type it, an option in its file's spelling.
        key: a group, a dotted key of the schema, or a setting of Hydra's.
        value: its plain value; None where `sweep` has several.
        sweep: Hydra's own parsed override where it gives several values.
        points: those values, each as an override of its own; none for a glob or a range.
        interpolates: whether a value refers to another one, which only Hydra resolves.
    """

    text: str
    key: str
    value: Any = None
    sweep: Any = None
    points: tuple[Override, ...] = ()
    interpolates: bool = False

    @property
    def is_choice(self) -> bool:
        """Whether it chooses an option of a group."""
        return self.key in groups()

    @property
    def chooses_nothing(self) -> bool:
        """Whether it leaves a group without an option: `experiment=null`."""
        return self.is_choice and self.sweep is None and self.value is None

    @property
    def is_setting(self) -> bool:
        """Whether it is a setting of Hydra's own."""
        return _is_setting(self.key)

    @property
    def hydra_text(self) -> str:
        """As Hydra gets it, who must be told to take keys of a free-form mapping that no file has set."""
        adds = not self.is_choice and not self.is_setting and (isinstance(self.value, dict) or is_free_form(self.key))
        return f"++{self.text}" if adds else self.text

    @functools.cached_property
    def typed(self) -> frozenset[str]:
        """The dotted value paths that it sets; none for choices and settings of Hydra's."""
        if self.is_choice or self.is_setting:
            return frozenset()
        if self.sweep is None:
            return frozenset(leaf_paths(self.key, self.value))
        return frozenset({self.key}.union(*(point.typed for point in self.points)))


class ThisMachine(NamedTuple):
    """What device=auto means: an option of the device group, and overrides for what is otherwise here than its file
    says."""

    option: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overrides:
    """Checked overrides, in their order."""

    items: tuple[Override, ...] = ()

    @property
    def texts(self) -> list[str]:
        """As the user would type them."""
        return [item.text for item in self.items]

    @property
    def hydra_texts(self) -> list[str]:
        """As Hydra gets them, which cannot be told to choose nothing: conf/ chooses nothing there of itself."""
        return [item.hydra_text for item in self.items if not item.chooses_nothing]

    @property
    def first_points(self) -> Overrides:
        """The same with the first value of those that have several; a glob or a range is left out."""
        firsts = (item.points[:1] if item.sweep is not None else (item,) for item in self.items)
        return Overrides(tuple(item for first in firsts for item in first))

    @property
    def typed(self) -> set[str]:
        """The dotted value paths that they set."""
        return {path for item in self.items for path in item.typed}


def check_overrides(
    texts: Sequence[str], *, multirun: bool = False, this_machine: Callable[[], ThisMachine] | None = None
) -> Overrides:
    """Checks command-line overrides against the groups of conf/ and the schema; raises one ConfigError for them all.

    `this_machine` says what device=auto means; its overrides give way to those in `texts`.
    """
    checked: list[Override] = []
    problems: list[ConfigError] = []
    seen: set[str] = set()
    found: ThisMachine | None = None
    for text in texts:
        try:
            if re.fullmatch(r"device\s*=\s*\(.*\)\s*", text):  # MESH_DEVICE as documents write it, which is no grammar
                option("device", text.partition("=")[2].strip())
            _refuse_bare_word(text)
            parsed = parse(text)
            key = str(parsed.key_or_group)
            if key in seen:
                raise ConfigError(f"{key} is given twice.", "Give it once, or sweep: --multirun KEY=A,B.")
            seen.add(key)
            if key == "device" and this_machine is not None and _names_auto(parsed):
                found = _of_this_machine(texts, parsed, this_machine())
            checked.append(_checked(text, parsed, key, multirun, found.option if found else None))
        except ConfigError as problem:
            problems.append(problem)
    raise_all(problems)
    own = () if found is None else check_overrides(found.overrides).items
    return Overrides((*checked, *own))


def _refuse_bare_word(text: str) -> None:
    """Raises ConfigError for a word that gives no key a value, with the group that has such an option."""
    if not re.fullmatch(r"[A-Za-z0-9][\w./-]*", text):
        return
    hint = f"Write {text}=VALUE." if text in groups() or annotation_of(text) is not None else "See --help."
    for group in ("device", "model", "precision", "backend"):
        with contextlib.suppress(ConfigError):
            hint = f"Did you mean {group}={option(group, text)}?"
            break
    raise ConfigError(f"{text!r} is not KEY=VALUE.", hint)


def check_each(texts: Sequence[str]) -> Overrides:
    """As `check_overrides`, but each by itself and remembered: for code that asks for the same ones again and again."""
    return Overrides(tuple(_remembered(text, conf_dirs()) for text in texts))


@remembered
def _remembered(text: str, roots: tuple[Path, ...]) -> Override:
    (only,) = check_overrides([text]).items
    return only


def check_value(key: str, value: Any, text: str) -> Override:
    """The override that gives `key` a plain `value`, as `text` says it; nothing is parsed. Raises ConfigError."""
    if key in SEVERAL and isinstance(value, list) and value:
        names = [str(_option(f"{key}={name}", key, name)) for name in value]
        return Override(f"{key}=[{','.join(names)}]", key, names)
    if key in groups():
        name = _option(text, key, value)
        return Override(f"{key}={'null' if name is None else name}", key, name)
    if (spelled := _spelled(key, value)) != value:
        text, value = f"{key}={spelled}", spelled
    return Override(text, key, value, interpolates=_check(key, value))


def _spelled(key: str, value: Any) -> Any:
    """`value` as its enum spells it where it was typed in another case, or by the name that ttnn has for it."""
    annotation = annotation_of(key)
    kinds = [annotation, *typing.get_args(annotation)]
    cls = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Named)), None)
    if cls is None or not isinstance(value, str) or value in cls.__members__:
        return value
    word = re.sub(rf"^(ttnn\.)?({cls.__name__}\.|DataType\.)?", "", value, flags=re.IGNORECASE).casefold()
    known = {str(member).casefold(): str(member) for member in cls} | {
        name.casefold(): str(member) for member in cls for name in member.other_names
    }
    return known.get(word, value)


def _names_auto(parsed: Any) -> bool:
    return any(str(plain_value(element)).casefold() == AUTO for element in elements_of(parsed))


def _of_this_machine(texts: Sequence[str], parsed: Any, machine: ThisMachine) -> ThisMachine:
    """`machine` without what the user typed otherwise. Raises ConfigError where it would hold for other devices too."""
    typed = {text.partition("=")[0].strip().lstrip("+") for text in texts}
    left = tuple(text for text in machine.overrides if text.partition("=")[0] not in typed)
    if left and len(elements_of(parsed)) > 1:
        raise ConfigError(
            f"device=auto in a sweep: this machine needs {' '.join(left)}, which other devices must not have.",
            f"Run device=auto by itself, or sweep device={machine.option} and the others.",
        )
    return ThisMachine(machine.option, left)


def _checked(text: str, parsed: Any, key: str, multirun: bool, auto: str | None) -> Override:
    elements, sweeps = elements_of(parsed), parsed.is_sweep_override()
    values = [plain_value(element) for element in elements]
    if key == "device" and auto is not None:
        values = [auto if str(value).casefold() == AUTO else value for value in values]
    if _is_setting(key):
        check_setting(text, key, values)
        return Override(text, key, values[0] if values and not sweeps else None, parsed if sweeps else None)
    _refuse_prefix(text, parsed, key)
    if not sweeps:
        return check_value(key, values[0], text)
    if not multirun:
        raise ConfigError(f"{text!r} gives several values for {key}.", f"{command('run')} --multirun runs them all.")
    texts = [f"{key}={encoded(element)}" for element in elements]
    points = tuple(check_value(key, value, one) for value, one in zip(values, texts, strict=True))
    if key in groups() and points:
        text = f"{key}={','.join(point.text.partition('=')[2] for point in points)}"
    elif key not in groups() and annotation_of(key) is None:
        raise unknown_key(key)
    return Override(text, key, sweep=parsed, points=points, interpolates=any(point.interpolates for point in points))


def _refuse_prefix(text: str, override: Any, key: str) -> None:
    if override.is_delete():
        raise ConfigError(f"{text!r} deletes a key; every key is needed.", f"Set it instead: {key}=VALUE.")
    if override.is_add() or override.is_force_add():
        bare = text.lstrip("+")
        known = key in groups() or annotation_of(key) is not None
        hint = f"Write {bare}." if known else did_you_mean(key.split(".")[0], root_keys(), "")
        raise ConfigError(f"{text!r} adds a key; every key exists already, so nothing can be added.", hint)


def _check(key: str, value: Any) -> bool:
    """Raises ConfigError where `key` cannot take `value`; returns whether only Hydra can tell, by interpolating it."""
    annotation = annotation_of(key)
    if annotation is None:
        raise unknown_key(key)
    if nested_dataclass(annotation) is not None and value is not None:
        if not isinstance(value, dict):
            raise ConfigError(f"{key} is a section, not a value.", f"Set its keys: {key}.KEY=VALUE.")
        found = [_check(f"{key}.{name}", inner) for name, inner in value.items()]  # all of them are checked
        return any(found)
    if isinstance(value, str) and "${" in value:
        return True
    coerce(key, annotation, value)
    if annotation in (str, str | None) and not isinstance(value, (str, type(None))):
        # OmegaConf would spell it anew: 010 as 10, 12e5 as 1200000.0.
        raise ConfigError(f"{key} must be text, not {value!r}.", f"Put it in quotes: \"{key}='…'\".")
    return "${" in str(value)


def _option(text: str, group: str, value: Any) -> str | None:
    if value is None and group in OPTIONAL_GROUPS:
        return None
    if isinstance(value, (list, dict)) or value is None:
        few = groups()[group][:2] or ("null",)
        raise ConfigError(
            f"{group} takes one option, not {text.partition('=')[2] or 'nothing'}.",
            f"Write {group}={few[0]}" + (f", or sweep: --multirun {group}={','.join(few)}." if few[1:] else "."),
        )
    return option(group, str(value))


def _is_setting(key: str) -> bool:
    return key.split(".")[0].split("/")[0] == "hydra"
