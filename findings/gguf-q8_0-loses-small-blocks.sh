#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: Q8_0 has a scale for each block of 32, so its error is 1/254 of the block's largest magnitude, however small.
# Happens: the scale is a float16 and becomes subnormal below 6e-5, that is for blocks whose largest magnitude is below
#   0.008; the codes are computed with the unrounded scale. At 1e-5 a quarter is lost, at 1e-6 all is zero.
# Seen: gguf 0.19.0, numpy 1.26.4, 2026-11
# Output: error / largest magnitude: 0.4% at 1.0, 1.6% at 0.0001, 24.3% at 1e-05, 100.0% at 1e-06
# Here: weights are dequantised as the file has them; an accuracy against them does not show what the file has lost.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gguf==0.19.0 numpy==1.26.4
cd "$folder"

venv/bin/python - <<'END_PYTHON'
from importlib.metadata import version

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

kind = GGMLQuantizationType.Q8_0


def error(largest):
    """The largest error in a block of evenly spaced numbers, as a share of its largest magnitude."""
    block = np.linspace(-largest, largest, 32).astype(np.float32)
    return float(np.abs(dequantize(quantize(block, kind), kind) - block).max()) / largest


found = {largest: error(largest) for largest in (1.0, 1e-4, 1e-5, 1e-6)}
print("gguf", version("gguf"), "numpy", np.__version__)
print("Blocks that differ in nothing but a factor, to Q8_0 and back:")
print("error / largest magnitude:", ", ".join(f"{share:.1%} at {at}" for at, share in found.items()))
assert found[1.0] < 0.004 and found[1e-4] > 0.01 and found[1e-5] > 0.2 and found[1e-6] > 0.99
END_PYTHON
