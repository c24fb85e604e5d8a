"""The layers of HW1P1: shapes, errors and state; the arithmetic is in ``kernels``."""

from .activation import Activation, Identity, ReLU, Sigmoid, Tanh, activation_named
from .batchnorm import BatchNorm
from .linear import Linear
from .loss import Criterion, SoftmaxCrossEntropy

__all__ = [
    "Activation",
    "BatchNorm",
    "Criterion",
    "Identity",
    "Linear",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
    "activation_named",
]
