# SPDX-License-Identifier: Apache-2.0
"""What users of cards have in their environment, or could: none of it may reach a described system."""

SET_FOR_A_CARD = {
    "TT_VISIBLE_DEVICES": "0,1",
    "TT_METAL_HOME": "/opt/tt-metal",
    "TT_METAL_RUNTIME_ROOT": "/opt/tt-metal",
    "TT_METAL_CACHE": "/nowhere/cache",
    "TT_METAL_SLOW_DISPATCH_MODE": "1",
    "TT_METAL_DISPATCH_CORE_TYPE": "eth",
    "TT_METAL_WATCHER": "10",
    "TT_METAL_DPRINT_CORES": "0,0",
    "TT_METAL_VISIBLE_DEVICES": "3",
    "TT_MESH_ID": "7",
    "TT_MESH_GRAPH_DESC_PATH": "/nowhere/mesh.textproto",
    "TT_FABRIC_MODE": "2",
    "TT_UMD_LOCKS": "x",
    "TTNN_CONFIG_OVERRIDES": '{"enable_logging": true}',
    "WH_ARCH_YAML": "wormhole_b0_80_arch_eth_dispatch.yaml",
    "ARCH_NAME": "blackhole",
    "MESH_DEVICE": "T3K",
    "OMPI_COMM_WORLD_SIZE": "4",
    "LOGURU_LEVEL": "TRACE",
}
