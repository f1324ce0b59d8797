# SPDX-License-Identifier: Apache-2.0
import pytest

from tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a Llama of two layers and 256 tokens, and a tokenizer whose tokens are bytes."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """Caches of measurements go under the test's own folder."""
    from tt_transformers_v2.search import subject

    monkeypatch.setattr(subject, "outputs_dir", lambda: tmp_path / "outputs")
    return tmp_path / "outputs"
