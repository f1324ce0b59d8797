# SPDX-License-Identifier: Apache-2.0
"""YAML read as OmegaConf reads it: no code, no dates, no key twice; what is wrong is named with its line."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError

# Numbers that OmegaConf knows besides PyYAML's: floats without a dot (70e9) or without a sign in the exponent (1.0e5).
_FLOAT = re.compile(
    r"[-+]?[0-9]+(_[0-9]+)*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)$|\.[0-9]+(_[0-9]+)*([eE][-+][0-9]+)?$"
)


def read_yaml_file(path: Path) -> tuple[str, Any]:
    """Text and content of a YAML file. Raises ConfigError naming the line when it cannot be read."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        return text, parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path} is not plain YAML{line}: {error.problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not plain YAML: {type(error).__name__}.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def parse_yaml(text: str) -> Any:
    """YAML as OmegaConf reads it: no code, no dates, scientific notation as numbers."""
    import yaml

    return yaml.load(text, Loader=_loader())


def _construct_without_duplicates(loader: Any, node: Any, deep: bool = False) -> Any:
    """PyYAML lets the last of two equal keys win; OmegaConf refuses them, and so do we."""
    import yaml

    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


@functools.cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type(
        "ConfLoader", (base,), {"yaml_implicit_resolvers": {}, "construct_mapping": _construct_without_duplicates}
    )
    for first, resolvers in base.yaml_implicit_resolvers.items():
        loader.yaml_implicit_resolvers[first] = [each for each in resolvers if not each[0].endswith(":timestamp")]
    loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    return loader
