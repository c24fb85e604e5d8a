"""The layers of HW1P1: shapes, errors and state; the arithmetic is in ``kernels``."""

from .activation import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
    activation_named,
)
from .batchnorm import BatchNorm
from .linear import Linear
from .loss import Criterion, SoftmaxCrossEntropy

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BatchNorm",
    "Criterion",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyReLU",
    "Linear",
    "Mish",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Softsign",
    "Tanh",
    "activation_named",
]
