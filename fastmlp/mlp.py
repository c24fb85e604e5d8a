"""The multi-layer perceptron of HW1P1, with ``fit`` and friends on top."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from . import checkpoint, training
from ._attributes import CHECKED
from ._buffers import replaceable_activations
from ._exchange._methods import ExchangeMethods
from ._exchange._onnx_methods import OnnxMethods
from ._layer_path import LayerPath
from ._measures import Figures, figures_of
from .datasets import Schema
from .engine import FEW_ROWS, infer
from .history import History
from .kernels._rates import unit_for
from .layers import Activation, Criterion
from .layers.activation import check_activations_compiled
from .layers.embedding import PeriodicEmbeddings
from .layers.loss import CRITERIA, is_compiled_criterion
from .optimizers import Optimizer
from .optimizers._of_network import optimizer_of
from .validation import (
    check_compute_dtype,
    check_count,
    check_dtype,
    check_flag,
    check_instance,
    check_sample_weight,
    check_samples,
    check_sequence,
    check_shape,
    names_nearest,
    nearest,
)


class MLP(ExchangeMethods, OnnxMethods, LayerPath):
    """A network of linear layers: linear, then a norm if the layer has one, then activation.

    Parameters
    ----------
    input_size, output_size : int
        D and K.
    hiddens : list of int
        Widths of the hidden layers; empty for a linear classifier.
    activations : list of Activation
        One per layer, the output layer included.
    weight_init_fn : (d0, d1) -> (d0, d1) array
    bias_init_fn : (d) -> (1, d) array, or None for layers without bias
        Called layer by layer, weights first.
    criterion : Criterion
    lr, momentum : float
        Learning rate and momentum of ``step`` and ``fit``; both may be changed later.
    num_bn_layers : int
        The first so many layers get batch norm.
    dtype : float32 or float64, optional
        Default: what ``weight_init_fn`` returns.
    weight_decay : float
        c of a term c * sum(W**2) in the loss: adds 2*c*W to the gradients of the weights.
    batchnorm_reduction : "sum" or "mean"
        "sum" updates gamma and beta by batch sums, as HW1P1; "mean" divides them by the
        rows of the batch, as dW and db are, and is the default with an optimizer or layer norm.
    compute_dtype : "float32", "float64", "bfloat16" or "auto", optional
        What the operands of the three products of a linear layer are rounded to; by default
        they are of the parameters' dtype. "bfloat16" needs float32 parameters, and makes them so
        where ``dtype`` is not given: weights, sums, activations, batch norm, loss and momenta stay
        float32. It runs on AVX-512-BF16, and with the same rounding, slowly, on any processor.
        "auto" lets ``fit`` measure which is the faster for the network and the batch, float32 or
        bfloat16: results may then differ from machine to machine.
    num_ln_layers : int
        The first so many layers get layer norm, in the place of batch norm.
    residual : bool
        Whether layers whose input is as wide as their output, but not the last, add it to their
        output: act(...) + input. Reference: He et al., "Deep residual learning", 2016.
    dropout : float or list of float
        Share, in [0, 1), of the outputs of every hidden layer that training mode sets to 0, others
        growing by 1 / (1 - share); or a share for the input of each layer, x first.
    scale_inputs : bool
        Whether every column of x is multiplied by a learnt number, ``input_scale``, (D,), before
        the first layer and its dropout; all are 1 at the start. Momentum then is applied in a
        phase of its own, as other rules are. Needs a first layer without a residual connection.
        Reference: Holzmüller, Grinsztajn and Steinwart, "Better by default", 2024, the scaling
        layer.
    parametric_activations : bool
        Whether hidden layers have z + w * (act(z) - z) in the place of act(z), with a learnt w for
        every neuron, ``activation_weights``, all 1 at the start. Reference: the same.
    embeddings : PeriodicEmbeddings, optional
        Numbers learnt of the first columns of x, which the first layer, scales and dropout of x
        take behind its columns: ``weight_init_fn`` is called for so many inputs. As for scales,
        momentum then has a phase of its own.
    dropout_seed : int, optional
        Decides, with the number of forward passes, on what is dropped; by default a random one.

    All parameters lie in one flat array, ``parameters``, their gradients in ``gradients`` and
    momenta in ``velocities``, of the same layout; ``statistics`` holds the running means and
    variances. The layers' arrays are views of them.

    ``history`` is that of the last ``fit``, also of one that an error or Ctrl-C has ended;
    ``unfinished`` says where that stands. ``schema``, a ``datasets.Schema`` or None, says of which
    columns of a table the rows are made, and what its classes are called: for who predicts, and
    for nothing here.

    Several threads may use different networks at the same time, and one network may predict for
    all of them while nobody changes it. While one thread fits it, predictions of others are of the
    weights of some step before, or of two steps mixed, and do not disturb the fit: a copy made in a
    callback, ``copy.copy(mlp)``, is of one step. A second fit from another thread is refused with
    RuntimeError. ``forward`` and ``backward`` keep what they need in the network, its activations
    and its criterion: these belong to one thread.

    Sizes, dtype and switches cannot be changed once the network is made, and what it has not cannot
    be set: AttributeError, with the nearest name. Only names that begin with an underscore are the
    user's, and all that are set on objects of a derived class.

    Raises ValueError or TypeError, naming what was expected and what came. An assignment that
    raises changes nothing, and neither does a call that is refused for its arguments.
    Reference: CMU 11-785 HW1P1, section 3.5.
    """

    @names_nearest
    def __init__(
        self,
        input_size: int,
        output_size: int,
        hiddens: Sequence[int],
        activations: Sequence[Activation],
        weight_init_fn: Callable[[int, int], Any],
        bias_init_fn: Callable[[int], Any] | None,
        criterion: Criterion,
        lr: float | None = None,
        momentum: float = 0.0,
        num_bn_layers: int = 0,
        *,
        optimizer: Optimizer | None = None,
        dtype: Any = None,
        weight_decay: float = 0.0,
        batchnorm_reduction: str | None = None,
        compute_dtype: str | None = None,
        num_ln_layers: int = 0,
        residual: bool = False,
        dropout: float | Sequence[float] = 0.0,
        dropout_seed: int | None = None,
        scale_inputs: bool = False,
        parametric_activations: bool = False,
        embeddings: PeriodicEmbeddings | None = None,
    ) -> None:
        self.input_size = check_count("input_size", input_size)
        self.output_size = check_count("output_size", output_size)
        widths = check_sequence("hiddens", hiddens)
        self.hiddens = tuple(check_count(f"hiddens[{i}]", w) for i, w in enumerate(widths))
        self.nlayers = len(self.hiddens) + 1
        self._activations = replaceable_activations(activations, self.nlayers)
        self.criterion = criterion
        self.num_bn_layers = self._check_norms("num_bn_layers", num_bn_layers)
        self.num_ln_layers = self._check_norms("num_ln_layers", num_ln_layers)
        if self.num_bn_layers and self.num_ln_layers:
            raise ValueError(
                "the first layers have batch norm or layer norm, not both: leave out one of "
                f"num_bn_layers={num_bn_layers} and num_ln_layers={num_ln_layers}"
            )
        if batchnorm_reduction is None:
            by_mean = optimizer is not None or self.num_ln_layers > 0
            batchnorm_reduction = "mean" if by_mean else "sum"
        self.batchnorm_reduction = batchnorm_reduction
        dtype = None if dtype is None else check_dtype(dtype)
        if check_compute_dtype(compute_dtype, dtype) == "bfloat16":
            dtype = np.dtype(np.float32)
        self.embeddings = self._check_embeddings(embeddings)
        self.scale_inputs = check_flag("scale_inputs", scale_inputs)
        self.residual = self._check_residual(residual)
        self.parametric_activations = self._check_parametric(parametric_activations)
        self.dropout = dropout
        self.dropout_seed = dropout_seed
        self._optimizer = optimizer_of(optimizer, lr, momentum, weight_decay)
        self.updates = 0
        self.bn = self.num_bn_layers > 0
        self.history: History | None = None
        self.schema: Schema | None = None
        self.unfinished = None
        self._begin()
        self._build(weight_init_fn, bias_init_fn, dtype)
        self.compute_dtype = compute_dtype

    def __setattr__(self, name: str, value: Any) -> None:
        if name in CHECKED:
            value = CHECKED[name](name, value)
        elif name == "criterion":
            check_instance(name, value, Criterion)
            value.check_outputs(self.output_size)
        elif name == "schema" and value is not None:
            check_instance(name, value, Schema)
            value.check_fits(self.input_size, self.output_size)
        elif name[0] != "_" and type(self) is MLP:
            self._check_known(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _known_names() and not hasattr(MLP, name):
            raise AttributeError(f"{name} cannot be deleted: every network has it")
        super().__delattr__(name)

    def _check_known(self, name: str) -> None:
        if name not in _known_names():
            raise AttributeError(
                f"MLP has no attribute {name!r}; one of your own begins with an underscore, or is "
                f"of a class derived from MLP{nearest(name, list(_known_names()))}"
            )

    @names_nearest
    def fit(
        self,
        x: Any,
        labels: Any = None,
        *,
        epochs: int = 1,
        batch_size: int = 128,
        max_steps: int | None = None,
        shuffle: bool | str = True,
        window: int | None = None,
        seed: Any = None,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        callbacks: Sequence[Any] = (),
        progress: bool = False,
        lr_schedule: training.ScheduleLike = None,
        check_finite: bool = True,
        accumulate: int = 1,
        drop_last: bool = False,
        decay_schedule: Callable[[float], float] | None = None,
        dropout_schedule: Callable[[float], float] | None = None,
        resume: bool | str = False,
        comm: Any = None,
        shards: int | None = None,
    ) -> History:
        """Train on (x, labels) from the present weights and momenta on.

        x : (N, D) uint8 (scaled to [0, 1]), float32 or float64, any strides, read in place, memory
            maps too; or booleans and other integers, taken as they are, from a copy in floats.
            Floats that are in a smaller form, uint8 / 255 or float32, may be read from a copy in
            it, to the same bits: docs/how-it-works/memory.md says when. x must not be changed
            meanwhile, but by callbacks.
            Or, without labels, a sequence of blocks larger than the memory: ``len(x)`` of them,
            ``x[i]`` reads (x, labels) or (x, labels, sample_weight) of one, and ``x.row_counts``,
            if there is such, has their rows; otherwise each is read once to be counted.
            ``datasets.open_blocks`` makes one of files
        labels : what the criterion takes: (N,) classes, whole numbers, or (N, K) rows; numbers
            for regression, (N, K), or (N,) for a single output
        batch_size : the last batch may be shorter
        max_steps : stop after that many steps, within an epoch if need be
        shuffle : False takes the rows in order; "blocks" takes blocks in random order, of an array
            those of a megabyte, and shuffles the rows within a window, so that disks are read
            sequentially, and so does True where x is blocks
        window : how many rows of blocks are in memory at a time, at most but for those of one
            update, and as many again that a thread reads meanwhile; by default 128 MB of x. An
            epoch has windows of about the same size
        seed : makes the shuffling repeatable, and what is dropped: it sets ``dropout_seed``
        sample_weight : (N,) numbers of at least 0 that multiply the losses of the rows; a batch's
            loss is divided by the sum of its weights
        validation_data : (x, labels) or (x, labels, sample_weight), evaluated after every epoch
        callbacks : objects with ``on_train_begin(mlp, plan)``, ``on_progress(progress)``,
            ``on_epoch_end(mlp, history)`` (True stops), ``on_train_end(mlp, history)``, or some of
            them; functions are refused. They may look at the network, change it, and train it: the
            fit goes on from what they leave. ``check_plan(plan)`` may refuse the fit.
        progress : show a progress bar
        lr_schedule : a ``schedules.Schedule``, which multiplies ``lr``; or the rates themselves,
            one per step or a function of the progress in [0, 1)
        check_finite : refuse NaN and infinity in x, labels and validation data, naming the first
            row and column; one pass over them, 9 ms for MNIST in float32. Where ``max_steps`` ends
            the fit within its first epoch, only rows that it trains on are looked at. Blocks are
            looked at whenever they are read
        accumulate : batches whose gradients are added up for one update, by the mean over their
            rows; an epoch ends with an update
        drop_last : leave out the last batch of an epoch where it is shorter than the others: with
            ``shuffle`` other rows every time
        decay_schedule : function of the progress in [0, 1) to a number of at least 0 that, step by
            step, multiplies ``weight_decay``; asked for all steps before the first
        dropout_schedule : the same for the shares of ``dropout``, with numbers of at most 1
        resume : True goes on with the network's ``unfinished`` fit, to the same bits as if it had
            not been interrupted, ``epoch_seconds`` aside. It needs the same arguments, but for
            ``progress``, ``check_finite`` and those callbacks that have no state; of arrays above
            64 MB a sample of rows is compared, and of blocks the first, and how many rows each has.
            "auto" does so if there is such a fit, and begins anew if there is none; False always
            begins anew.
        comm : a communicator of mpi4py's, like ``MPI.COMM_WORLD``: all its processes call ``fit``
            with the same network and arguments, and train it together. Each reads its rows of x
            alone. See docs/ranks.md
        shards : in how many parts every batch is cut, whose gradients are added in an order that
            depends on their number alone: the same one ends in the same bits on any number of
            processes that divides it, the quotient being a power of two. By default as many as
            there are processes. Batch norm takes mean and variance of each shard

        Returns a ``History``, also kept in ``history``. An interrupt, an error of a callback, or a
        block that cannot be read or is refused, leaves the network as of the last finished step,
        the figures so far in ``history``, and what is left to do in ``unfinished``. The first block
        is read before anything has changed. Where a batch's loss is not finite the training ends
        before its update, with a ``NotFiniteWarning`` that names epoch and step. Raises ValueError
        or TypeError before anything has changed: the network, the last ``history``, and a generator
        given as ``seed``; and RuntimeError while another thread trains the network.
        """
        options = training.FitOptions(
            epochs, batch_size, max_steps, shuffle, window, seed, sample_weight, validation_data,
            callbacks, progress, lr_schedule, check_finite, accumulate, drop_last,
            decay_schedule, dropout_schedule, resume, comm, shards,
        )  # fmt: skip
        return training.fit(self, x, labels, options)

    def check_compiled(self) -> None:
        """Raise TypeError unless ``fit`` can train the network: criterion and activations."""
        if not is_compiled_criterion(self.criterion):
            raise TypeError(
                "fit and evaluate need a criterion that fastmlp compiles, one of "
                f"{', '.join(CRITERIA)} or one made by Criterion.of, "
                f"got {type(self.criterion).__name__}; use forward, backward and step"
            )
        self.criterion.check_outputs(self.output_size)
        check_activations_compiled(self.activations)

    def _outputs(self, x: Any) -> np.ndarray:
        check_activations_compiled(self.activations)
        x = check_samples("x", x, self.input_size, least_rows=0)
        flat = self.buffers.for_reading()
        # Of many rows all weights are read anyway.
        finite = len(x) <= FEW_ROWS and self.buffers.known_finite()
        return infer(self.layout, flat, x, unit_for(self.compute_dtype), finite=finite)

    def predict(self, x: Any) -> np.ndarray:
        """What the criterion implies for every row of x. Batch norm in eval mode.

        The most likely class, (N,) int64, of ``SoftmaxCrossEntropy``; labels 0 and 1, int64, of
        ``BinaryCrossEntropy``; values of the others; (N, K), or (N,) for a single output.
        """
        return self.criterion.predict(self._outputs(x))

    def predict_proba(self, x: Any) -> np.ndarray:
        """The probabilities of classes or labels for every row of x, (N, K), in eval mode.

        Raises TypeError for a criterion whose outputs are no probabilities.
        """
        return self.criterion.probabilities(self._outputs(x))

    def evaluate(self, x: Any, labels: Any, sample_weight: Any = None) -> tuple[float, float]:
        """(mean loss per sample, mean error) on x, in eval mode; both weighted.

        The error is the fraction classified wrongly, the share of labels missed, or, for
        regression, the mean absolute error.
        """
        return self.figures(x, labels, sample_weight)[:2]

    def score(self, x: Any, labels: Any, sample_weight: Any = None) -> float:
        """The share of classes or labels that are right; R², the mean over outputs, of values."""
        figures = self.figures(x, labels, sample_weight)
        return 1 - figures.error if figures.r2 is None else figures.r2

    def figures(self, x: Any, labels: Any, sample_weight: Any = None) -> Figures:
        """How good the network is on x, in eval mode: what ``evaluate`` and ``score`` return."""
        self.check_compiled()
        x = check_samples("x", x, self.input_size)
        labels = self.criterion.check_targets("labels", labels, len(x), self.output_size)
        weights = check_sample_weight("sample_weight", sample_weight, len(x))
        return figures_of(self.criterion, self._outputs(x), labels, weights)

    def save(self, path: str | PathLike[str], weights_dtype: str | None = None) -> None:
        """Write network, optimiser state, schema and unfinished fit to a safetensors file.

        weights_dtype : "bfloat16" rounds weights and their momenta in the file, which is then half
            as large; by default they are kept to the bit
        """
        checkpoint.save(self, path, weights_dtype)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> MLP:
        """The network that ``save`` wrote, in training mode, as new networks are.

        Raises ValueError, which names the file, when it is not such a file, not whole, or changed
        since; OSError when it cannot be read. No size that a file states is believed before it is
        checked; nothing in it is ever executed.
        """
        with checkpoint.reading(path):
            saved = checkpoint.read(path)
            mlp = cls(**saved.arguments)
            mlp.updates, mlp.dropout_steps = saved.updates, saved.dropout_steps
            for layer, alpha in zip(mlp.bn_layers, saved.alphas, strict=True):
                layer.alpha = alpha
            for name, layer, attribute in checkpoint.arrays_of(mlp):
                setattr(layer, attribute, saved.tensors[name])
            mlp.schema, mlp.unfinished = saved.schema, saved.unfinished
            if mlp.unfinished is not None:
                for name, values in mlp.unfinished.network.items():
                    check_shape(f"fit.network.{name}", values, np.shape(getattr(mlp, name)))
        return mlp


@functools.cache
def _known_names() -> dict[str, None]:
    """The public attributes of a network, in order."""
    names = (*dir(MLP), *CHECKED, "criterion", "output", "schema")
    return dict.fromkeys(name for name in names if name[0] != "_")
