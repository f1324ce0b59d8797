#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a section that may be null (Optional[Rope] = None) can be set on the command line, or a line says why not.
# Happens: `rope.factor=2`, `+rope.factor=2` and `++rope.factor=2` end in an AssertionError, `rope={factor: 2}` in an
#   AttributeError, each out of OmegaConf; `rope={}` is taken, and the section stays null. A file may set it.
# Seen: hydra-core 1.3.8 with omegaconf 2.3.1, 2026-11
# Output: rope.factor=2: AssertionError: Unexpected type for root: NoneType
#         rope={factor: 2}: AttributeError: 'NoneType' object has no attribute 'get'
#         rope={}: rope is null
# Here: model.rope_scaling is a section without a kind, not null, where a model has none.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1
cat > null_section.py <<'END_PYTHON'
from dataclasses import dataclass
from typing import Optional

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore


@dataclass
class Rope:
    factor: float = 1.0


@dataclass
class Model:
    rope: Optional[Rope] = None


ConfigStore.instance().store("model", node=Model)


def outcome(override):
    try:
        rope = compose("model", overrides=[override]).rope
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "rope is null" if rope is None else f"rope is {rope}"


with initialize(version_base="1.3", config_path=None):
    found = {text: outcome(text) for text in ("rope.factor=2", "++rope.factor=2", "rope={factor: 2}", "rope={}")}
for text, said in found.items():
    print(f"  {text}: {said}")
assert list(found.values()) == [
    "AssertionError: Unexpected type for root: NoneType",
    "AssertionError: Unexpected type for root: NoneType",
    "AttributeError: 'NoneType' object has no attribute 'get'",
    "rope is null",
], found
END_PYTHON

echo "Setting a section that may be null:"
env/bin/python null_section.py
