"""What ``MLP`` has for ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Self

from .._extras import require
from ..layers import Criterion
from ..optimizers import Optimizer


class OnnxMethods:
    """Base of ``MLP``."""

    def to_onnx(
        self,
        path: str | PathLike[str],
        *,
        outputs: Sequence[str] | None = None,
        fold_batchnorm: bool = False,
        input_dtype: str | None = None,
    ) -> None:
        """Write the network as it predicts to an ONNX file, of opset 17, for any number of rows.

        outputs : which of these the model has, in this order; by default all that the criterion
            gives. "scores", (N, K), are the network's outputs, the last activation's;
            "probabilities", (N, K), are what ``predict_proba`` gives; "prediction" is what
            ``predict`` gives: classes or labels as int64, or values.
        fold_batchnorm : make batch norms, by their running statistics, part of the linear layers
            before them, in float64
        input_dtype : "uint8" for a model that takes pixels, and scales them to [0, 1] as ``fit``
            does; by default its input ``x``, (N, D), is of the network's dtype, and already scaled

        Constants have the network's dtype; a network that computes in bfloat16 is written with the
        float32 weights that it keeps, and the model's products are float32's. Dropout, which does
        nothing in a prediction, is left out, and so is what training goes on from: that is what
        ``save`` is for. The criterion is noted in the model's properties; so is the ``schema``, as
        "fastmlp.schema": what JSON makes of its ``to_dict``.

        Raises ValueError for activations that are not fastmlp's own, for outputs that the criterion
        does not give, and for more than the 2 GiB that such a file can hold; OSError, which names
        the file, when it cannot be written; ImportError without onnx.
        """
        require("onnx", "onnx")
        from ._onnx_export import export

        export(self, path, outputs=outputs, fold_batchnorm=fold_batchnorm, input_dtype=input_dtype)

    @classmethod
    def from_onnx(
        cls,
        path: str | PathLike[str],
        *,
        criterion: Criterion | None = None,
        optimizer: Optimizer | None = None,
    ) -> Self:
        """The network in an ONNX file, in training mode, as new networks are.

        path : a file that ``to_onnx`` wrote, that ``torch.onnx.export`` made of an
            ``nn.Sequential`` of linear layers, norms, dropout and activations that fastmlp has, or
            skl2onnx of an MLP
        criterion : by default the one that ``to_onnx`` noted; or, by how the graph ends,
            ``SoftmaxCrossEntropy`` for a softmax, ``BinaryCrossEntropy`` for a sigmoid, which
            then are the criterion's and no activation of the last layer, ``PoissonNLL`` for exp,
            otherwise ``MeanSquaredError``, whose predictions are the outputs as they are
        optimizer : by default ``Adam()``

        An activation is recognised by what it computes, in whatever operators it is written.
        Scaling and shifting of columns, and batch norms other than those behind the first so many
        linear layers, become part of linear layers; a bias of zeros is added where only some
        layers have one. A ``schema`` that ``to_onnx`` noted is that of the network; what else names
        classes is not kept. ``predict`` gives their numbers.

        Raises ValueError, which names the file, and the node and its operator, when there is
        anything that an MLP cannot do, when data lie in other files, when arrays are not of their
        stated sizes, and when it is no ONNX file; OSError when it cannot be read; ImportError
        without onnx. Nothing in the file is ever executed.
        """
        require("onnx", "onnx")
        from ._onnx_import import read_network

        return read_network(cls, path, criterion, optimizer)
