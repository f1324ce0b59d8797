#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: pickling cfg.model, to hand it to a worker process, pickles the section.
# Happens: a section keeps its parent, so the pickle (and a deepcopy) of any section holds the whole configuration.
#   A worker that is handed a section of one key gets everything, once per job.
# Seen: omegaconf 2.3.1, Python 3.12, 2026-11
# Output: the whole config: 143190 bytes; its section "model" of one key: 143190 bytes; that section alone: 446 bytes
# Here: a job goes to its worker as plain containers; OmegaConf's objects do not leave the composer.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check omegaconf==2.3.1
cd "$folder"

venv/bin/python - <<'END_PYTHON'
import copy
import pickle
from importlib.metadata import version

from omegaconf import OmegaConf

config = OmegaConf.create({"model": {"layers": 2}, "other": {str(n): n for n in range(2000)}})
whole, section = len(pickle.dumps(config)), len(pickle.dumps(config.model))
alone = len(pickle.dumps(OmegaConf.create(OmegaConf.to_container(config.model))))
print("omegaconf", version("omegaconf"))
print("Sizes of pickles:")
print(f'the whole config: {whole} bytes; its section "model" of one key: {section} bytes;', end=" ")
print(f"that section alone: {alone} bytes")
assert section >= whole > 100 * alone
assert "other" in copy.deepcopy(config.model)._get_parent()
END_PYTHON
