# SPDX-License-Identifier: Apache-2.0
"""torch's threads do not spin on the cores that our kernels want, unless the user says so."""

import os
import subprocess
import sys

import pytest

SHOW = "import os, sys, tt_transformers_v2; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_importing_the_package_sets_the_policy_before_torch_is_loaded(given, expected):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    printed = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [expected, "False"]
