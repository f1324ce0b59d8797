# SPDX-License-Identifier: Apache-2.0
import pytest
from tiny_llama import write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a random Llama of three layers, in bfloat16, and a tokenizer whose tokens are bytes."""
    return write_model(tmp_path_factory.mktemp("tiny"))
