"""Multi-layer perceptrons, trained fast on multicore CPUs."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets
    from ._version import __version__ as __version__
    from .history import History
    from .layers import (
        ELU,
        GELU,
        SELU,
        Activation,
        BatchNorm,
        BinaryCrossEntropy,
        Criterion,
        HardSigmoid,
        HardSwish,
        Huber,
        Identity,
        LayerNorm,
        LeakyReLU,
        Linear,
        MeanAbsoluteError,
        MeanSquaredError,
        Mish,
        PoissonNLL,
        Quantile,
        ReLU,
        Sigmoid,
        SiLU,
        SoftmaxCrossEntropy,
        Softplus,
        Softsign,
        Tanh,
    )
    from .layers.embedding import PeriodicEmbeddings
    from .mlp import MLP
    from .sweeps import train_many
    from .threads import get_num_threads, set_num_threads
    from .training import get_training_stats

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "SELU",
    "Activation",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Criterion",
    "HardSigmoid",
    "HardSwish",
    "History",
    "Huber",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Mish",
    "PeriodicEmbeddings",
    "PoissonNLL",
    "Quantile",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Softsign",
    "Tanh",
    "datasets",
    "get_num_threads",
    "get_training_stats",
    "set_num_threads",
    "train_many",
]

# The names that are neither modules nor from layers, and their modules.
_MODULES = {
    "MLP": "mlp",
    "History": "history",
    "train_many": "sweeps",
    "get_training_stats": "training",
    "PeriodicEmbeddings": "layers.embedding",
    "get_num_threads": "threads",
    "set_num_threads": "threads",
    "__version__": "_version",
}

if not TYPE_CHECKING:  # To a type checker any name at all would be here.

    def __getattr__(name: str) -> Any:
        """A public name or a module, imported when it is first used.

        Numba takes long to import, and importing any module of the package runs this file first:
        without the delay, the `fastmlp` command could not answer Ctrl-C until Numba is there.
        """
        if find_spec(f"{__name__}.{name}") is not None:
            return import_module(f"{__name__}.{name}")
        if name not in __all__ and name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'layers')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
