# SPDX-License-Identifier: Apache-2.0
"""Tasks register themselves with the runner."""

import subprocess
import sys

import pytest

from tt_transformers_v2.config.experiment_schema import Task
from tt_transformers_v2.run.tasks import function_of


@pytest.mark.parametrize("task", list(Task), ids=str)
def test_every_task_has_a_function_in_a_module_of_that_kind(task):
    assert function_of(task).__module__.rpartition(".")[2].endswith("_task")


def test_finding_the_functions_loads_neither_torch_nor_ttnn():
    code = (
        "import sys; from tt_transformers_v2.run.tasks import function_of; "
        "from tt_transformers_v2.config.experiment_schema import Task; [function_of(task) for task in Task]; "
        "sys.exit(bool({'torch', 'ttnn', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
