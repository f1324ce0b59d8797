#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a structured config's field of type str keeps the characters typed for it.
# Happens: the override is read as a number first and the number is then written out as text, so an abbreviated commit
#   or a label of digits and an e becomes another text. Values that YAML reads as text pass as they are.
# Seen: omegaconf 2.3.1, also with the command line of hydra-core 1.3.8, 2026-11
# Output: 12e5 -> '1200000.0', 1_000 -> '1000', 7. -> '7.0', TRUE -> 'True', 0012 -> '0012', 12f5 -> '12f5'
# Here: the schema is OmegaConf's and does the same; model.name="'12e5'", quoted for Hydra too, keeps the text.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1
cd "$folder"

venv/bin/python - <<'END_PYTHON'
from dataclasses import dataclass
from importlib.metadata import version

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf


@dataclass
class Run:
    revision: str = "main"


def typed(text):
    config = OmegaConf.structured(Run)
    override = OverridesParser.create().parse_override(f"revision={text}")
    OmegaConf.update(config, override.key_or_group, override.value())
    return config.revision


found = {text: typed(text) for text in ("12e5", "1_000", "7.", "TRUE", "0012", "12f5")}
dotlist = OmegaConf.merge(OmegaConf.structured(Run), OmegaConf.from_dotlist(["revision=12e5"])).revision
print("omegaconf", version("omegaconf"), "hydra-core", version("hydra-core"))
print("What a field of type str holds after revision=TEXT:")
print(", ".join(f"{text} -> {value!r}" for text, value in found.items()))
assert list(found.values()) == ["1200000.0", "1000", "7.0", "True", "0012", "12f5"], found
assert dotlist == "1200000.0", dotlist
END_PYTHON
