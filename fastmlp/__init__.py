"""Multi-layer perceptrons trained at the speed limit of the CPU."""

from . import datasets
from .layers import (
    Activation,
    BatchNorm,
    Criterion,
    Identity,
    Linear,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from .mlp import MLP
from .threads import get_num_threads, set_num_threads
from .training import History, get_training_stats

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Activation",
    "BatchNorm",
    "Criterion",
    "History",
    "Identity",
    "Linear",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
    "datasets",
    "get_num_threads",
    "get_training_stats",
    "set_num_threads",
]
