# SPDX-License-Identifier: Apache-2.0
"""Another Hydra application composes this package's groups by its schema."""

import subprocess
import sys

import pytest

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


@pytest.fixture
def application(tmp_path):
    write_application(tmp_path)
    return tmp_path


def assert_composes_our_groups(folder, **settings):
    done = run_application(folder, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ExperimentConfig T3K BFP4 8", "LoFi 32 4"]
    done = run_application(folder, "device=p150", "compute.mlp.math_fidelity=HiFi2", **settings)
    assert done.stdout.splitlines() == ["ExperimentConfig P150 BFP4 1", "HiFi2 32 4"]


def test_it_gets_typed_objects(application):
    assert_composes_our_groups(application)


def test_omegaconf_refuses_a_wrong_enum_with_our_names(application):
    done = run_application(application, "compute.mlp.math_fidelity=HiFi9")
    assert done.returncode == 1
    assert "Invalid value 'HiFi9', expected one of [LoFi, HiFi2, HiFi3, HiFi4]" in done.stderr
    assert "compute.mlp.math_fidelity" in done.stderr


def test_omegaconf_refuses_an_unknown_key_and_a_wrong_type(application):
    done = run_application(application, "precision.mlp_weight=BFP8")
    assert "Key 'mlp_weight' not in 'PrecisionConfig'" in done.stderr
    done = run_application(application, "workload.batch=many")
    assert "could not be converted to Integer" in done.stderr


def test_our_bounds_hold_there_too(application):
    done = run_application(application, "workload.batch=0")
    assert done.returncode == 1
    assert "WorkloadConfig.batch must be at least 1, not 0." in done.stderr


def test_hydras_flags_show_the_schema(application):
    assert "throttle_level: 0" in run_application(application, "--cfg", "job").stdout
    assert "tt_transformers_v2/schema" in run_application(application, "--info", "defaults").stdout
