"""The methods of ``MLP`` that other libraries and languages have to do with."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from .._extras import require
from ..layers import Criterion
from ..optimizers import Optimizer

if TYPE_CHECKING:
    from torch import nn


class ExchangeMethods:
    """Base of ``MLP``: networks from and to PyTorch, from scikit-learn, to C."""

    def to_torch(self) -> nn.Sequential:
        """The network as modules of PyTorch, in evaluation mode, with copies of all numbers.

        Linear layers, norms, activations and dropout are torch.nn's; input scales, embeddings,
        parametric activations and residual connections are modules of fastmlp's, whose parameters
        PyTorch trains and saves as those of any other. Outputs are what ``forward`` gives in
        evaluation mode, in the network's dtype: class scores, not probabilities. PyTorch scales no
        images: give it ``x / 255`` for ``x`` of uint8. ``compute_dtype`` stays behind.

        Batch norm has the momentum 1 - alpha and the same eps. While it trains, PyTorch averages
        the unbiased variance of a batch of N rows, N / (N - 1) times the one that fastmlp averages:
        weights learn alike, running variances differ by that.

        Raises ValueError for activations of a user's own, ImportError without PyTorch.
        """
        require("torch", "torch")
        from ._to_torch import to_torch

        return to_torch(self)

    @classmethod
    def from_torch(
        cls,
        module: nn.Module,
        criterion: Criterion | None = None,
        optimizer: Optimizer | None = None,
    ) -> Self:
        """A network with the layers and copies of the numbers of a module of PyTorch.

        module : an nn.Sequential, nested or not, of Linear, then BatchNorm1d or LayerNorm, then an
            activation, then Dropout, for each layer; perhaps after a Flatten; on any device, of
            float32 or float64. What ``to_torch`` returns, too.
        criterion : by default ``SoftmaxCrossEntropy()``; a module does not say what it is for
        optimizer : by default ``SGD()``, as torch.optim.SGD is

        Where some of the linear layers have a bias, all do: those without start from zeros. Batch
        norm has the alpha 1 - momentum. fastmlp's eps is 1e-8: the difference to another one goes
        into the running variances, with a warning, so that predictions are the same; training goes
        on with 1e-8. A Softplus becomes one without the straight line that PyTorch's is above its
        threshold of 20 or more, at most 2e-9 / beta away. All parameters learn, frozen ones too.

        Raises ValueError, with name and place, for what no MLP can have; ImportError without
        PyTorch.
        """
        require("torch", "torch")
        from ._from_torch import from_torch

        return from_torch(cls, module, criterion, optimizer)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """A network with the weights of a fitted estimator of scikit-learn's or of fastmlp's.

        estimator : an MLPClassifier or MLPRegressor. Of fastmlp's own the network is a copy of
            ``network_``, state of the optimizer included; of scikit-learn's it has the optimizer
            that the solver stands for, without its moments and without the penalty ``alpha``. The
            criterion has the derivatives of the estimator's loss: of values it is ``Huber`` with a
            delta that no error reaches, half of the squared error.

        ``predict`` gives numbers where the estimator has names: of several classes k, which stands
        for ``estimator.classes_[k]``; of two classes 0 and 1, likewise, from a single output; of
        several labels a row of 0 and 1, one for each of ``classes_``. ``predict_proba`` has a
        column for each output: of two classes one, the probability of ``classes_[1]``. x must be
        floats: scikit-learn takes uint8 as it is, fastmlp as pixels, which it divides by 255.

        Raises TypeError for another object, scikit-learn's NotFittedError before ``fit``,
        ImportError without scikit-learn.
        """
        from ._sklearn import from_sklearn

        return from_sklearn(cls, estimator)

    def to_c(self, path: str | PathLike[str], name: str = "mlp") -> None:
        """Write the network as one C file, for devices without Python.

        name : of the functions, ``void name_forward(const float *x, float *y)`` from a row (D,) to
            the outputs (K,), and ``int name_predict(const float *x)``, the class of
            ``SoftmaxCrossEntropy`` or the label of ``BinaryCrossEntropy`` with a single output;
            and, in capitals, of the macros NAME_INPUTS and NAME_OUTPUTS. With NAME_MAIN defined,
            the file is a program that reads rows and prints outputs. float64 networks have double
            in the place of float.

        Outputs are what ``forward`` gives in evaluation mode, up to rounding: class scores, not
        probabilities. Numbers are exact, but batch norm and scales of the input, which are
        multiplied into the weights; ``compute_dtype`` stays behind. The file is C99 and C++17,
        needs <math.h> alone, takes nothing from the heap, and keeps no state: rows of hidden layers
        lie on the stack, in two arrays at most. Equal networks give equal bytes. Of a network
        with a ``schema`` a comment says which input is which column or category, and which output
        is which class or target. The file is there whole or not at all.

        Raises ValueError where the name is none, for activations of a user's own and for numbers
        that are not finite; OSError, which names the file, where it cannot be written.
        """
        from ._c import to_c

        to_c(self, path, name)
