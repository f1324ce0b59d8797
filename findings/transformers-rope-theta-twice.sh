#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: rope_theta=500000 at construction can be read and changed as config.rope_theta, like any other key.
# Happens: it moves into rope_parameters and there is no such attribute; assigning it makes a second one that no model
#   reads. Both are written to config.json, they contradict each other, and reading takes the one in rope_parameters.
# Seen: transformers 5.24.0, 2026-11 (version 4 had the attribute)
# Output: attribute after construction: False; config.json: rope_theta 1000000.0, rope_parameters {'rope_theta':
#         500000.0, 'rope_type': 'default'}; read again: 500000.0, top-level key gone
# Here: both spellings are read; rope_parameters wins over rope_theta, as in transformers.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0
cd "$folder"
export TRANSFORMERS_VERBOSITY=error  # says otherwise that PyTorch is missing, which configs do not need

venv/bin/python - <<'END_PYTHON'
import json
from importlib.metadata import version

from transformers import LlamaConfig

config = LlamaConfig(rope_theta=5e5)
had = hasattr(config, "rope_theta")
config.rope_theta = 1e6
written = json.loads(config.to_json_string())
again = LlamaConfig.from_dict(written)
print("transformers", version("transformers"))
print("LlamaConfig(rope_theta=5e5), then config.rope_theta = 1e6:")
print(f"attribute after construction: {had}; config.json: rope_theta {written['rope_theta']},", end=" ")
print(f"rope_parameters {written['rope_parameters']}; read again: {again.rope_parameters['rope_theta']},", end=" ")
print(f"top-level key {'kept' if hasattr(again, 'rope_theta') else 'gone'}")
assert not had and not hasattr(again, "rope_theta")
assert written["rope_theta"] == 1e6
assert written["rope_parameters"] == again.rope_parameters == {"rope_theta": 5e5, "rope_type": "default"}
END_PYTHON
