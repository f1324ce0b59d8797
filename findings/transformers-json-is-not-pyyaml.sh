#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a config.json can be read by a YAML loader too: JSON is a subset of YAML.
# Happens: transformers writes small numbers as Python's json does, 1e-05. PyYAML follows YAML 1.1, where a float has a
#   point, and returns the text '1e-05', which fails later or compares unequal. OmegaConf has a rule of its own.
# Seen: transformers 5.24.0, PyYAML 6.0.3, omegaconf 2.3.1, 2026-11
# Output: rms_norm_eps by json 1e-05, by PyYAML '1e-05', by OmegaConf 1e-05
# Here: config.json is read by json only; YAML files are read by a loader with YAML 1.2's floats.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 PyYAML==6.0.3 omegaconf==2.3.1
cd "$folder"
export TRANSFORMERS_VERBOSITY=error  # says otherwise that PyTorch is missing, which configs do not need

venv/bin/python - <<'END_PYTHON'
import json
from importlib.metadata import version

import yaml
from omegaconf import OmegaConf
from transformers import LlamaConfig

text = LlamaConfig(rms_norm_eps=1e-5).to_json_string()
by_json = json.loads(text)["rms_norm_eps"]
by_yaml = yaml.safe_load(text)["rms_norm_eps"]
by_omegaconf = OmegaConf.create(text)["rms_norm_eps"]
print(*(f"{name} {version(name)}" for name in ("transformers", "PyYAML", "omegaconf")))
print("One config.json, three readers:")
print(f"rms_norm_eps by json {by_json!r}, by PyYAML {by_yaml!r}, by OmegaConf {by_omegaconf!r}")
assert by_json == by_omegaconf == 1e-5 and by_yaml == "1e-05"
END_PYTHON
