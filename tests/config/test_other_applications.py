# SPDX-License-Identifier: Apache-2.0
"""Another Hydra application composes this package's groups by its schema."""

import pytest

from other_application import assert_composes_our_groups, run_application, write_application


@pytest.fixture
def application(tmp_path):
    write_application(tmp_path)
    return tmp_path


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
