# SPDX-License-Identifier: Apache-2.0
"""A tiny model that reads bytes, and what tasks of lm-eval need."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from places import ROOT

HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
WHY = "lm-eval is not installed: pip install 'tt-transformers-v2[lm-eval]'"


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips where lm-eval is missing; goes to the checkout, which our tasks' data is relative to."""
    if not HAS_LM_EVAL:
        pytest.skip(WHY)
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides for a random Llama of two layers whose 256 tokens are the bytes of a text."""
    folder = tmp_path_factory.mktemp("tiny") / "llama"
    shutil.copytree(ROOT / "tests" / "data" / "hf_llama", folder)
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(sorted(letters))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": sorted(letters)[0]}))
    return ("model=hf", f"model.path={folder}")
