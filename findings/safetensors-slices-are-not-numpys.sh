#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: safe_open(...).get_slice(name)[...] slices as numpy does.
# Happens: single indices may be negative, bounds of slices may not; a slice past the end is an error, not shorter, so
#   rows read in chunks fail at the last one; a boolean is the index 0 or 1 and no mask.
# Seen: safetensors 0.8.0, 2026-11
# Output: [-1] as numpy; [-1:] OverflowError; [:-1] OverflowError; [2:4] SafetensorError;
#         [True] shape (4,) for (1, 3, 4); [::2] as numpy
# Here: bounds are positive and within a shape that was compared with the file's first.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==1.26.4
cd "$folder"

venv/bin/python - <<'END_PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import save_file

array = np.arange(12.0, dtype=np.float32).reshape(3, 4)
save_file({"weight": array}, "weights.safetensors")


def outcome(index):
    with safetensors.safe_open("weights.safetensors", "np") as file:
        try:
            found = file.get_slice("weight")[index]
        except Exception as error:
            return type(error).__name__
    wanted = array[index]
    if found.shape != wanted.shape:
        return f"shape {found.shape} for {wanted.shape}"
    return "as numpy" if np.array_equal(found, wanted) else "other numbers"


cases = {"[-1]": -1, "[-1:]": np.s_[-1:], "[:-1]": np.s_[:-1], "[2:4]": np.s_[2:4], "[True]": True, "[::2]": np.s_[::2]}
found = {text: outcome(index) for text, index in cases.items()}
print("safetensors", safetensors.__version__)
print("Slices of a tensor of 3 rows and 4 columns, beside numpy's of the same array:")
print("; ".join(f"{text} {result}" for text, result in found.items()))
assert found["[-1]"] == found["[::2]"] == "as numpy"
assert found["[-1:]"] == found["[:-1]"] == "OverflowError" and found["[2:4]"] == "SafetensorError"
assert found["[True]"] == "shape (4,) for (1, 3, 4)"
END_PYTHON
