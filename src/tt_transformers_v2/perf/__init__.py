# SPDX-License-Identifier: Apache-2.0
"""What an experiment costs: speed, bounds and memory, predicted without a card and without torch or ttnn."""

from .calibration import Calibration
from .memory import MemoryFit, memory_fit
from .prediction import Prediction, predict
from .roofline import predict_performance
from .speed import Performance

__all__ = ["Calibration", "MemoryFit", "Performance", "Prediction", "memory_fit", "predict", "predict_performance"]
