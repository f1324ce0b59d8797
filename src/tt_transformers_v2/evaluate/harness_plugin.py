# SPDX-License-Identifier: Apache-2.0
"""Makes `lm_eval --model tt_transformers_v2` known. Imports nothing but what is there already.

lm-eval looks for no plug-ins (0.4.13), but imports torch before it looks a model up, and torch calls the functions of
the entry point `torch.backends` at its import. TORCH_DEVICE_BACKEND_AUTOLOAD=0 turns that off.
"""

from __future__ import annotations

import sys

NAME = "tt_transformers_v2"
TARGET = "tt_transformers_v2.evaluate.harness_model:HarnessModel"


def announce() -> None:
    """Adds the model to lm-eval's registry where lm-eval is running; does nothing in any other program."""
    if "lm_eval" in sys.modules:
        register()


def register() -> None:
    """Adds the model to lm-eval's registry, by name; its module is imported when it is asked for."""
    import lm_eval.models  # noqa: F401 - or lm-eval takes the registry for filled and never adds its own
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=TARGET)
