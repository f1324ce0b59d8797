#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: two ttnn configurations with equal settings are equal, as two MemoryConfigs are.
# Happens: compute kernel configs and program configs have no equality of their own: == is false between twins. Nor can
#   they be copied or pickled; a program config's text has its settings, a compute kernel config's has an address.
# Seen: ttnn 0.81.1, Python 3.12, no card, 2026-11
# Output: MemoryConfig True, as text True; WormholeComputeKernelConfig False, as text False;
#         MatmulMultiCoreReuseMultiCastProgramConfig False, as text True; copy.deepcopy of the second: TypeError
# Here: settings are kept in dataclasses and turned into ttnn's objects last; program configs are compared as text.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ttnn==0.81.1 numpy==1.26.4
cd "$folder"

cat > compare.py <<'END_PYTHON'
import copy
from importlib.metadata import version

import ttnn


def memory():
    return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.INTERLEAVED, ttnn.BufferType.L1)


def compute():
    return ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2)


def program():
    sizes = dict(in0_block_w=2, out_subblock_h=1, out_subblock_w=1, per_core_M=4, per_core_N=4)
    return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=(8, 8), transpose_mcast=False, fused_activation=None, **sizes
    )


try:
    copied = type(copy.deepcopy(compute())).__name__
except TypeError as error:
    copied = type(error).__name__
print("ttnn", version("ttnn"))
print("Each made twice with the same arguments and compared with ==:")
for make in (memory, compute, program):
    one, other = make(), make()
    print(f"  {type(one).__name__} {one == other}, as text {str(one) == str(other)}")
print("copy.deepcopy of a compute kernel config:", copied)
first, second = compute(), compute()
assert memory() == memory() and first != second and program() != program()
assert str(program()) == str(program()) and str(first) != str(second) and copied == "TypeError"
END_PYTHON
LOGURU_LEVEL=ERROR TT_LOGGER_LEVEL=off venv/bin/python compare.py
