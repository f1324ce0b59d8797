#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a config class that checks the type of every key also refuses a key that it does not have.
# Happens: LlamaConfig(num_hidden_layers=4.0) is refused, LlamaConfig(num_hidden_layer=4) is accepted: the config has
#   its default of 32 layers and the misspelt key besides, which is written to config.json and read from it again.
# Seen: transformers 5.24.0, 2026-11
# Output: num_hidden_layers 32, num_hidden_layer 4, written to config.json: both;
#         num_hidden_layers=4.0 raises StrictDataclassFieldValidationError
# Here: conf/ refuses unknown keys; a config.json must state its shapes, and tensors that do not fit them are refused.
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

config = LlamaConfig(num_hidden_layer=4)
written = json.loads(config.to_json_string())
again = LlamaConfig.from_dict(written)
try:
    LlamaConfig(num_hidden_layers=4.0)
    refusal = None
except Exception as error:
    refusal = type(error).__name__
print("transformers", version("transformers"))
print("LlamaConfig(num_hidden_layer=4), with the last letter missing:")
both = {"num_hidden_layers", "num_hidden_layer"} <= set(written)
print(f"num_hidden_layers {config.num_hidden_layers}, num_hidden_layer {config.num_hidden_layer},", end=" ")
print(f"written to config.json: {'both' if both else 'not both'}; num_hidden_layers=4.0 raises {refusal}")
assert (config.num_hidden_layers, config.num_hidden_layer, again.num_hidden_layer) == (32, 4, 4)
assert both and refusal is not None
END_PYTHON
