# SPDX-License-Identifier: Apache-2.0
"""A Hydra application of somebody else's that composes this package's groups."""

import subprocess
import sys

APPLICATION = """
import hydra
from omegaconf import OmegaConf

@hydra.main(config_path="conf", config_name="mine", version_base="1.3")
def main(cfg):
    found = OmegaConf.to_object(cfg)
    print(type(found).__name__, found.device.device_type, repr(found.precision.mlp_weights), found.parallelism.chips)
    print(repr(found.compute.mlp.math_fidelity), found.model.num_layers, found.workload.batch)

main()
"""
MINE = """
defaults:
  - tt_transformers_v2/schema
  - device: t3k
  - precision: performance
  - model: llama8b
  - _self_

workload: {batch: 4}
"""


def write_application(folder):
    (folder / "conf").mkdir()
    (folder / "app.py").write_text(APPLICATION)
    (folder / "conf" / "mine.yaml").write_text(MINE)


def run_application(folder, *arguments, python=sys.executable, **settings):
    command = [str(python), str(folder / "app.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, **settings)


def assert_composes_our_groups(folder, **settings):
    done = run_application(folder, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ExperimentConfig T3K BFP4 8", "LoFi 32 4"]
    done = run_application(folder, "device=p150", "compute.mlp.math_fidelity=HiFi2", **settings)
    assert done.stdout.splitlines() == ["ExperimentConfig P150 BFP4 1", "HiFi2 32 4"]
