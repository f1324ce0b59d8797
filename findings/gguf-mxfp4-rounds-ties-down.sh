#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: MXFP4's four-bit numbers (E2M1) are rounded to nearest, ties to even, as ml_dtypes' type is.
# Happens: gguf takes the smaller magnitude at each tie: three of all seven come out one step lower.
# Seen: gguf 0.19.0, ml_dtypes 0.5.4, 2026-11
# Output: value     0.25  0.75  1.25  1.75  2.5  3.5  5.0
#         gguf      0.0  0.5  1.0  1.5  2.0  3.0  4.0
#         ml_dtypes 0.0  1.0  1.0  2.0  2.0  4.0  4.0
# Here: MXFP4 files are dequantised as gguf does; nothing is quantised to it.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gguf==0.19.0 ml_dtypes==0.5.4 numpy==1.26.4
cd "$folder"

venv/bin/python - <<'END_PYTHON'
from importlib.metadata import version

import gguf
import ml_dtypes
import numpy as np

ties = np.float32([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
block = np.zeros(32, np.float32)
block[:7], block[7] = ties, 6.0  # with 6 as the largest number the block's scale is 1
kind = gguf.GGMLQuantizationType.MXFP4
by_gguf = gguf.quants.dequantize(gguf.quants.quantize(block, kind), kind)
by_ml_dtypes = block.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
print("gguf", version("gguf"), "ml_dtypes", version("ml_dtypes"))
print("Numbers halfway between two of E2M1, in a block whose scale is 1:")
for name, values in (("value", ties), ("gguf", by_gguf[:7]), ("ml_dtypes", by_ml_dtypes[:7])):
    print(f"{name:9}", "  ".join(map(str, values)))
assert by_gguf[7] == by_ml_dtypes[7] == 6.0
assert by_gguf[:7].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
assert by_ml_dtypes[:7].tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
END_PYTHON
