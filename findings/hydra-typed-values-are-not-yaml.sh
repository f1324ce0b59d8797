#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a value means the same typed on the command line and written in a config file.
# Happens: the file is read as YAML 1.1, the command line by Hydra's own grammar: what YAML takes for a number or a
#   boolean stays text when typed. "cache=off" is a non-empty text, so code that tests it turns the cache on.
# Seen: hydra-core 1.3.8 with omegaconf 2.3.1, 2026-11
# Output: file  {'rows': 8, 'mask': 16, 'limit': 90, 'top': inf, 'cache': False}
#         typed {'rows': '010', 'mask': '0x10', 'limit': '1:30', 'top': '.inf', 'cache': 'off'}
# Here: a typed value becomes what its field makes of the text (off is false, 010 is 10) or is refused, as 0x10 is.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1 PyYAML==6.0.3
cd "$folder"

mkdir conf
cat > conf/config.yaml <<'END_YAML'
rows: 010
mask: 0x10
limit: 1:30
top: .inf
cache: off
END_YAML
venv/bin/python - <<'END_PYTHON'
from importlib.metadata import version
from pathlib import Path

from hydra import compose, initialize_config_dir

with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
    from_file = dict(compose("config"))
    lines = Path("conf/config.yaml").read_text().splitlines()
    typed = dict(compose("config", [line.replace(": ", "=") for line in lines]))

print("hydra-core", version("hydra-core"), "omegaconf", version("omegaconf"))
print("The same five values, from a config file and typed as overrides:")
print("file ", from_file)
print("typed", typed)
assert from_file == {"rows": 8, "mask": 16, "limit": 90, "top": float("inf"), "cache": False}
assert typed == {"rows": "010", "mask": "0x10", "limit": "1:30", "top": ".inf", "cache": "off"}
END_PYTHON
