#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: an infinity (an attention mask has -inf) or a NaN in a BFLOAT8_B or BFLOAT4_B tensor leaves the others alone.
# Happens: 16 numbers of a row share the largest exponent among them. That of an infinity is 255, beside which every
#   finite neighbour is shifted down to zero; the next 16 numbers are as they were.
# Seen: ttnn 0.81.1 packing on the host, Python 3.12, a described N150 in place of a card, 2026-11
# Output: BFLOAT8_B: column 0 -inf, columns 1 to 15 {0.0}, columns 16 to 31 {1.0}; BFLOAT4_B the same
# Here: numerics.quantize packs alike, bit for bit (docs/numerics.md), infinities too.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ttnn==0.81.1 numpy==1.26.4
cd "$folder"

cat > n150.yaml <<'END_YAML'
arch: {0: wormhole_b0}
chips: {0: [0, 0, 0, 0]}
chip_unique_ids: {0: 1}
ethernet_connections: []
ethernet_connections_to_remote_devices: []
chips_with_mmio: [{0: 0}]
io_device_type: PCIe
harvesting: {0: {noc_translation: true, harvest_mask: 64, dram_harvesting_mask: 0, eth_harvesting_mask: 0,
  pcie_harvesting_mask: 0, l2cpu_harvesting_mask: 0}}
boards: [[{board_id: 1649267441664}, {board_type: n150}, {chips: [0]}]]
END_YAML
cat > pack.py <<'END_PYTHON'
from importlib.metadata import version

import numpy as np
import ttnn

row = np.ones((32, 32), np.float32)
row[0, 0] = -np.inf


def packed(data_format):
    return ttnn.Tensor(row, data_format, layout=ttnn.TILE_LAYOUT).to_numpy()[0]


found = {data_format.name: packed(data_format) for data_format in (ttnn.bfloat8_b, ttnn.bfloat4_b)}
print("ttnn", version("ttnn"))
print("A row of 32 ones with -inf in column 0, packed on the host and unpacked:")
for name, values in found.items():
    print(f"{name}: column 0 {values[0]}, columns 1 to 15 {set(values[1:16])}, columns 16 to 31 {set(values[16:])}")
    assert values[0] == -np.inf and not values[1:16].any() and (values[16:] == 1).all()
END_PYTHON
# ttnn asks what the system is before it makes a tile, also on the host: it is told of an N150.
export TT_METAL_MOCK_CLUSTER_DESC_PATH="$folder/n150.yaml" TT_METAL_LOGS_PATH="$folder"
LOGURU_LEVEL=ERROR TT_LOGGER_LEVEL=off venv/bin/python pack.py
