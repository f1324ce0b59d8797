#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a host tensor made of int64 numbers is int32 or an error: ttnn has no 64-bit type, but it has signed ones.
# Happens: it is UINT32 (int16: UINT16) and each number keeps its low bits, without a word. -1, a usual mark of
#   padding and unused pages, becomes 4294967295. int64 is what torch makes of token ids and positions.
# Seen: ttnn 0.81.1, Python 3.12 (it has wheels for 3.10 and 3.12), no card, 2026-11; ttnn.from_torch does the same
# Output: int64 [-1, 7, 1099511627781] -> UINT32 [4294967295, 7, 5]; int16 [-1, 7] -> UINT16 [65535, 7];
#         int32 [-1, 7] -> INT32 [-1, 7]
# Here: ids, positions and page tables are int32 before ttnn gets them, with ttnn's dtype named in each call.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ttnn==0.81.1 numpy==1.26.4
cd "$folder"

cat > convert.py <<'END_PYTHON'
from importlib.metadata import version

import numpy as np
import ttnn


def made(numbers, dtype):
    tensor = ttnn.Tensor(np.array([numbers], dtype))
    return tensor.dtype.name, tensor.to_list()[0]


long = made([-1, 7, 2**40 + 5], np.int64)
short = made([-1, 7], np.int16)
plain = made([-1, 7], np.int32)
print("ttnn", version("ttnn"))
print("Host tensors made of signed integers:")
print("int64", [-1, 7, 2**40 + 5], "->", *long)
print("int16", [-1, 7], "->", *short)
print("int32", [-1, 7], "->", *plain)
assert long == ("UINT32", [4294967295, 7, 5])
assert short == ("UINT16", [65535, 7])
assert plain == ("INT32", [-1, 7])
END_PYTHON
LOGURU_LEVEL=ERROR TT_LOGGER_LEVEL=off venv/bin/python convert.py
