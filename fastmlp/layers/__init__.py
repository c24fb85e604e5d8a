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
from .layernorm import LayerNorm
from .linear import Linear
from .loss import (
    BinaryCrossEntropy,
    Criterion,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonNLL,
    Quantile,
    SoftmaxCrossEntropy,
)

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Criterion",
    "HardSigmoid",
    "HardSwish",
    "Huber",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Mish",
    "PoissonNLL",
    "Quantile",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Softsign",
    "Tanh",
    "activation_named",
]
