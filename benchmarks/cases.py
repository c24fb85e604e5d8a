"""One table of the kernels and layers that are measured.

Correctness tests, pytest-benchmark and asv read it. Importing it fails when a public kernel or
layer has no case, so that neither can be added without a benchmark.

>>> case = KERNELS["linear_forward"]
>>> arguments = case.arguments(batch=128, width=512, dtype=np.float32)
>>> expected = case.reference(*arguments)     # before the kernel, which may update in place
>>> case.kernel(*arguments)
>>> outputs = case.results(arguments)         # the arrays to compare with expected
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp import kernels, layers, optimizers
from fastmlp._layout import LayerSpec, Layout
from fastmlp.kernels.activation import ACTIVATIONS, NO_ACTIVATION
from fastmlp.kernels.embed import EmbeddingSizes
from fastmlp.kernels.update import FlatUpdate
from fastmlp.layers.loss import CRITERIA

# Modules whose functions take the engine's packed buffers; whole networks measure them.
ENGINE = {"apart", "epoch", "inference", "matmul", "network", "packing", "shards"}
OPTIMIZERS = list(optimizers.BY_NAME)


@dataclass(frozen=True)
class Case:
    """A public kernel and how to call it.

    kernel : the function; it overwrites or updates the arguments at the positions ``outputs``
    arguments : (batch, width, dtype) -> its arguments, the same draws every time
    expected : (tests.reference, *arguments) -> what the kernel should leave in its outputs
    form : dtype of the outputs, where it is not that of the arguments
    """

    kernel: Callable[..., None]
    outputs: tuple[int, ...]
    arguments: Callable[[int, int, Any], tuple[Any, ...]]
    expected: Callable[..., tuple[Any, ...]]
    form: Any = None

    def reference(self, *arguments: Any) -> tuple[Any, ...]:
        """The outputs by plain NumPy, of the arguments' dtype; changes no argument.

        Call it before the kernel, since some outputs are inputs too. Vectors over features are
        (1, F) or (F,), as tests/reference.py has them.
        """
        # Not at the top: asv imports this module where the tests are not to be had.
        from tests import reference

        return self.expected(reference, *arguments)

    def results(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The outputs among the arguments."""
        return tuple(arguments[position] for position in self.outputs)


@dataclass(frozen=True)
class LayerCase:
    """A layer and how to use it.

    make : (width, dtype) -> layer
    inputs : (batch, width, dtype) -> (arguments of forward, arguments of the backward method)
    backward : name of the method that takes gradients back
    """

    make: Callable[[int, Any], Any]
    inputs: Callable[[int, int, Any], tuple[tuple[Any, ...], tuple[Any, ...]]]
    backward: str = "backward"


def _normal(dtype: Any, *shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def _empty(batch: int, width: int, dtype: Any) -> np.ndarray:
    return np.empty((batch, width), dtype)


def _rows(batch: int, width: int, dtype: Any) -> np.ndarray:
    """Labels: positive rows that sum to 1."""
    rows = np.random.default_rng(1).random((batch, width)) + 0.01
    return (rows / rows.sum(axis=1, keepdims=True)).astype(dtype)


def _linear_forward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    x, w, b = _normal(dtype, (batch, width), (width, width), (1, width))
    return np.empty_like(x), x, w, b, ACTIVATIONS["relu"]


def _linear_backward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    x, w, dz = _normal(dtype, (batch, width), (width, width), (batch, width))
    return np.empty_like(w), np.empty((1, width), dtype), np.empty_like(x), x, w, dz


def _activation_case(name: str, kernel: Callable[..., None]) -> Case:
    formula = ACTIVATIONS[name]
    if kernel.__name__ == "activation_forward":

        def forward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
            (z,) = _normal(dtype, (batch * width,))
            return np.empty_like(z), np.ones_like(z), z, formula

        def expected(ref: Any, a: Any, slopes: Any, z: Any, _: Any) -> tuple[Any, ...]:
            kept = ref.SLOPES[name](z) if formula.keeps_slope else slopes
            return ref.ACTIVATIONS[name][0](z), kept

        return Case(kernel, (0, 1), forward, expected)

    def backward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
        da, kept = _normal(dtype, (batch * width,), (batch * width,))
        return np.empty_like(da), da, kept, formula

    return Case(
        kernel, (0,), backward, lambda ref, dz, da, kept, _: (da * ref.ACTIVATIONS[name][1](kept),)
    )


def _batchnorm_forward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    x, mean, var, gamma, beta = _normal(dtype, (batch, width), *[(1, width)] * 4)
    return np.empty_like(x), np.empty_like(x), mean, var, x, gamma, beta


def _expected_batchnorm_forward(ref: Any, y: Any, norm: Any, mean: Any, var: Any, *x: Any) -> Any:
    return ref.batchnorm_forward(*x, mean, var)[:4]


def _batchnorm_inference(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    x, gamma, beta, mean, var = _normal(dtype, (batch, width), *[(1, width)] * 4)
    return np.empty_like(x), x, gamma, beta, mean, np.abs(var) + 0.5


def _batchnorm_backward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    dy, x, gamma = _normal(dtype, (batch, width), (batch, width), (1, width))
    var = x.var(axis=0, keepdims=True) + 1e-8
    normalised = (x - x.mean(axis=0, keepdims=True)) / np.sqrt(var)
    return np.empty_like(dy), np.empty_like(gamma), np.empty_like(gamma), dy, normalised, var, gamma


def _expected_batchnorm_backward(
    ref: Any, dx: Any, dgamma: Any, dbeta: Any, dy: Any, norm: Any, var: Any, gamma: Any
) -> tuple[Any, ...]:
    # Any x with these moments will do: x = norm * std + 0.
    x = norm * np.sqrt(var + dx.dtype.type(ref.EPS))
    dgamma, dbeta, dx = ref.batchnorm_backward(dy, x, norm, np.zeros_like(var), var, gamma)
    return dx, dgamma, dbeta


def _batchnorm_running(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    return (*_normal(dtype, (width,), (width,)), 0.9)


def _layernorm_forward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    x, gamma, beta = _normal(dtype, (batch, width), (1, width), (1, width))
    return np.empty_like(x), np.empty_like(x), np.empty(batch, dtype), x, gamma, beta


def _layernorm_backward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    dy, x, scales, gamma = _normal(dtype, *[(batch, width)] * 2, (batch,), (1, width))
    normalised = x - x.mean(axis=1, keepdims=True)
    return np.empty_like(dy), *np.empty((2, 1, width), dtype), dy, normalised, scales, gamma


def _scale_gradient(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    dw, w, scale = _normal(dtype, (width * batch,), (width * batch,), (width,))
    # Not so near to 0 that quotients were large.
    scale += np.copysign(1, scale)
    if width > 2:
        scale[2] = 0
    return np.empty_like(scale), dw, w, scale


def _embed_forward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    """Half of the columns, of 5 frequencies, in 2 numbers each."""
    sizes = EmbeddingSizes((width + 1) // 2, 5, 2)
    x, numbers = _normal(dtype, (batch, width), (sizes.numbers,))
    return np.empty((batch, width + 2 * sizes.columns), dtype), x, numbers, sizes


def _embed_backward(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    dy, x, numbers, sizes = _embed_forward(batch, width, dtype)
    (dy,) = _normal(dtype, dy.shape, seed=1)
    return np.empty_like(numbers), dy, x, numbers, sizes, 1 / batch


def _softmax(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
    (logits,) = _normal(dtype, (batch, width))
    return np.empty_like(logits), logits


def _loss_case(name: str, kernel: Callable[..., None], result: int) -> Case:
    """A criterion's loss, result 0 of its reference, or the derivative, result 1."""
    criterion = CRITERIA[name]()

    def arguments(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
        z, labels = _loss_pair(batch, width, dtype)[0]
        out = np.empty_like(z) if result else np.empty(batch, dtype)
        return out, z, labels, criterion.formula(width, dtype), np.empty(0, dtype)

    def expected(ref: Any, *given: Any) -> tuple[Any, ...]:
        return (ref.loss_and_derivative(criterion, given[1], given[2])[result],)

    return Case(kernel, (0,), arguments, expected)


def _errors_case(name: str) -> Case:
    case = _loss_case(name, _kernel("row_errors"), 0)

    def arguments(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
        return np.empty(batch, dtype), *case.arguments(batch, width, dtype)[1:4]

    def expected(ref: Any, *given: Any) -> tuple[Any, ...]:
        return (ref.errors(CRITERIA[name](), given[1], given[2]),)

    return Case(case.kernel, (0,), arguments, expected)


def _values_case(name: str) -> Case:
    criterion = CRITERIA[name]()

    def arguments(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
        (z,) = _normal(dtype, (batch * width,))
        return np.empty_like(z), z, criterion.formula(width, dtype)

    def expected(ref: Any, *given: Any) -> tuple[Any, ...]:
        return (ref.values(criterion, given[1]),)

    return Case(_kernel("predicted_values"), (0,), arguments, expected)


def _update_case(name: str) -> Case:
    """An optimizer's tenth update of a linear layer, weights and biases, with weight decay."""
    cls = getattr(optimizers, name)
    optimizer = cls(lr=0.01, weight_decay=1e-4)

    def arguments(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
        layout = Layout([LayerSpec(width, width, NO_ACTIVATION, True, False)], dtype)
        w, first, second, gradients = _normal(dtype, *[(layout.parameters,)] * 4)
        # Sums and means of squares, not so near to 0 that all digits of a quotient were lost.
        second = np.abs(second) + 1
        if name == "Adagrad":
            first = second
        kept = second[: second.size * (optimizer.states == 2)]
        factors = optimizer.schedule(np.array([optimizer.lr]), 9, layout.groups, dtype)[0]
        update = FlatUpdate(optimizer.options, factors, 1.0)
        return w, first, kept, np.empty(0, dtype), gradients, layout.table, update

    def expected(ref: Any, *given: Any) -> tuple[Any, ...]:
        w, first, second, _, gradients, table, _ = given
        results = [np.array(array) for array in (w, first, second)[: 1 + optimizer.states]]
        biases = int(table[0]["flat_b"])
        for part, decay in ((slice(biases), 1e-4), (slice(biases, None), 0.0)):
            rule = dataclasses.replace(optimizer, weight_decay=decay)
            states = [state[part] for state in (first, second)]
            new = ref.UPDATES[name](rule, 10, w[part], states, gradients[part])
            for out, value in zip(results, new, strict=True):
                out[part] = value
        return tuple(results)

    outputs = tuple(range(1 + optimizer.states))
    return Case(_kernel("update_parameters"), outputs, arguments, expected)


def _hold_case(form: Any) -> Case:
    """Of numbers that are in the form: those of pixels, k / 255, in the dtype or in float32."""

    def arguments(batch: int, width: int, dtype: Any) -> tuple[Any, ...]:
        pixels = np.random.default_rng(0).integers(0, 256, batch * width)
        number = dtype if form == np.uint8 else np.float32
        x = pixels.astype(number) / np.dtype(number).type(255)
        return np.empty(x.size, form), x.astype(dtype), dtype

    def expected(ref: Any, held: Any, x: Any, dtype: Any) -> tuple[Any, ...]:
        return (ref.held(x, form),)

    return Case(_kernel("hold"), (0,), arguments, expected, form)


def _kernel(name: str) -> Any:
    return PUBLIC_KERNELS[name]


def _public_kernels() -> dict[str, Callable[..., None]]:
    """Plain functions of the kernel modules; what is compiled into other kernels is none."""
    found = {}
    for info in pkgutil.iter_modules(kernels.__path__):
        if info.name.startswith("_") or info.name in ENGINE:
            continue
        module = importlib.import_module(f"{kernels.__name__}.{info.name}")
        for name, value in vars(module).items():
            own = isinstance(value, types.FunctionType) and value.__module__ == module.__name__
            if own and not name.startswith("_"):
                found[name] = value
    return found


PUBLIC_KERNELS = _public_kernels()

KERNELS: dict[str, Case] = {
    "linear_forward": Case(
        _kernel("linear_forward"), (0,), _linear_forward,
        lambda ref, y, x, w, b, activation: (ref.linear_forward(x, w, b, "relu"),),
    ),
    "linear_backward": Case(
        _kernel("linear_backward"), (0, 1, 2), _linear_backward,
        lambda ref, dw, db, dx, x, w, dz: ref.linear_backward(x, w, dz),
    ),
    "softmax": Case(
        _kernel("softmax"), (0,), _softmax, lambda ref, p, logits: (ref.softmax(logits),)
    ),
    "batchnorm_forward": Case(
        _kernel("batchnorm_forward"), (0, 1, 2, 3), _batchnorm_forward, _expected_batchnorm_forward
    ),
    "batchnorm_inference": Case(
        _kernel("batchnorm_inference"), (0,), _batchnorm_inference,
        lambda ref, y, *rest: ref.batchnorm_forward(*rest, training=False)[:1],
    ),
    "batchnorm_backward": Case(
        _kernel("batchnorm_backward"), (0, 1, 2), _batchnorm_backward, _expected_batchnorm_backward
    ),
    "layernorm_forward": Case(
        _kernel("layernorm_forward"), (0, 1, 2), _layernorm_forward,
        lambda ref, y, norm, scales, *x: ref.layernorm_forward(*x),
    ),
    "layernorm_backward": Case(
        _kernel("layernorm_backward"), (0, 1, 2), _layernorm_backward,
        lambda ref, dx, dgamma, dbeta, *dy: ref.layernorm_backward(*dy),
    ),
    "dropout_factors": Case(
        _kernel("dropout_factors"), (0,), lambda *size: (_empty(*size), 0.4, 1, 3, 5),
        lambda ref, factors, *place: (ref.dropout_factors(factors.shape, *place),),
    ),
    "scale_gradient": Case(
        _kernel("scale_gradient"), (0,), _scale_gradient,
        lambda ref, ds, dw, w, s: (ref.scale_gradient(dw.reshape(s.size, -1), w, s),),
    ),
    "mix_gradient": Case(
        _kernel("mix_gradient"), (0,),
        lambda batch, width, dtype: (
            *_normal(dtype, (width,), (batch, width), (batch, width)), 0.25,
        ),
        lambda ref, dw, dy, bends, scale: (ref.mix_gradient(dy, bends, scale),),
    ),
    "embed_forward": Case(
        _kernel("embed_forward"), (0,), _embed_forward,
        lambda ref, y, x, numbers, sizes: (ref.embed(x, numbers, sizes),),
    ),
    "embed_backward": Case(
        _kernel("embed_backward"), (0,), _embed_backward,
        lambda ref, dnumbers, *rest: (ref.embed_gradient(*rest),),
    ),
    "batchnorm_running": Case(
        _kernel("batchnorm_running"), (0,), _batchnorm_running,
        lambda ref, running, value, alpha: (alpha * running + (1 - alpha) * value,),
    ),
}  # fmt: skip
KERNELS |= {f"update_parameters-{name}": _update_case(name) for name in OPTIMIZERS}
KERNELS |= {
    f"{kernel}-{name}": _loss_case(name, _kernel(kernel), result)
    for result, kernel in enumerate(("loss_forward", "loss_backward"))
    for name in CRITERIA
}
KERNELS |= {f"hold-{form}": _hold_case(np.dtype(form)) for form in ("uint8", "float32")}
KERNELS |= {f"row_errors-{name}": _errors_case(name) for name in CRITERIA}
KERNELS |= {
    f"predicted_values-{name}": _values_case(name)
    for name in CRITERIA
    if name != "SoftmaxCrossEntropy"
}
KERNELS |= {
    f"{kernel}-{name}": _activation_case(name, _kernel(kernel))
    for kernel in ("activation_forward", "activation_backward")
    for name in ACTIVATIONS
}


def _matrix_pair(batch: int, width: int, dtype: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    x, delta = _normal(dtype, (batch, width), (batch, width))
    return (x,), (delta,)


def _loss_pair(batch: int, width: int, dtype: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    (logits,) = _normal(dtype, (batch, width))
    return (logits, _rows(batch, width, dtype)), ()


def _linear_layer(width: int, dtype: Any) -> layers.Linear:
    (w,) = _normal(dtype, (width, width))
    return layers.Linear(width, width, lambda *_: w, lambda n: np.zeros((1, n), dtype))


def _activation_layer(name: str) -> LayerCase:
    return LayerCase(lambda width, dtype: layers.activation_named(name), _matrix_pair)


LAYERS: dict[str, LayerCase] = {
    "Linear": LayerCase(_linear_layer, _matrix_pair),
    "BatchNorm": LayerCase(lambda width, dtype: layers.BatchNorm(width, dtype=dtype), _matrix_pair),
    "LayerNorm": LayerCase(lambda width, dtype: layers.LayerNorm(width, dtype), _matrix_pair),
}
LAYERS |= {
    name: LayerCase(lambda width, dtype, cls=cls: cls(), _loss_pair, backward="derivative")
    for name, cls in CRITERIA.items()
}
LAYERS |= {
    type(layers.activation_named(name)).__name__: _activation_layer(name) for name in ACTIVATIONS
}


def _require(what: str, names: set[str], cases: dict[str, Any]) -> None:
    missing = names - {name.split("-")[0] for name in cases}
    if missing:
        raise LookupError(f"{what} without a case in benchmarks/cases.py: {sorted(missing)}")


_BASES = {"Activation", "Criterion"}
_require("kernels", set(PUBLIC_KERNELS), KERNELS)
_require(
    "layers",
    {name for name in layers.__all__ if isinstance(getattr(layers, name), type)} - _BASES,
    LAYERS,
)
