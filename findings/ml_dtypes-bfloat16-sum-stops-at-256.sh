#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: numpy's sum and mean of bfloat16 numbers are right to a few bits, as they are for float16.
# Happens: for float16 numpy adds in pairs and takes means in float32; for ml_dtypes' type it adds one by one in
#   bfloat16, where 256 + 1 is 256. Sums stop growing, mean and variance follow; only @ adds in float32.
# Seen: ml_dtypes 0.5.4, numpy 1.26.4, 2026-11
# Output: 1000 ones: sum 256, mean 0.255859, x @ x 1000.0; as float16: sum 1000.0, mean 1.0
#         variance of 0 to 999: 147456 in bfloat16, 83333.2 exactly
# Here: statistics are taken of float32 or float64 tensors, never in the format that is measured.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ml_dtypes==0.5.4 numpy==1.26.4
cd "$folder"

venv/bin/python - <<'END_PYTHON'
import ml_dtypes
import numpy as np

ones = np.ones(1000, ml_dtypes.bfloat16)
half = np.ones(1000, np.float16)
steps = np.arange(1000.0)
narrow, exact = float(np.var(steps.astype(ml_dtypes.bfloat16))), float(np.var(steps))
print("ml_dtypes", ml_dtypes.__version__, "numpy", np.__version__)
print("Plain statistics of small arrays:")
print(f"1000 ones: sum {ones.sum()}, mean {ones.mean()}, x @ x {ones @ ones};", end=" ")
print(f"as float16: sum {half.sum()}, mean {half.mean()}")
print(f"variance of 0 to 999: {narrow:.0f} in bfloat16, {exact:.1f} exactly")
assert ones.sum() == 256 and 0.25 < float(ones.mean()) < 0.26 and ones @ ones == 1000
assert half.sum() == 1000 and half.mean() == 1
assert narrow > 1.5 * exact
END_PYTHON
