"""Networks of every kind, for tests of what other libraries and languages make of them."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import strategies as st

from fastmlp import GELU, Identity, PeriodicEmbeddings, SiLU, Tanh
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.layers import activation_named
from tests.networks import build

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}

SIZES = [7, 17, 17, 5, 3]
SMOOTH = [SiLU, Tanh, GELU, Identity]
EMBEDDINGS = PeriodicEmbeddings(5, frequencies=4, outputs=3, sigma=0.3, seed=2)

# What makes a network other than a chain of linear layers and activations.
OPTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "batch norm": {"num_bn_layers": 4},
    "batch norm of the first": {"num_bn_layers": 1, "bias": False},
    "layer norm": {"num_ln_layers": 2},
    "residual": {"residual": True},
    "dropout": {"dropout": [0.1, 0.25, 0.5, 0.0]},
    "scales": {"scale_inputs": True},
    "parametric": {"parametric_activations": True},
    "embeddings": {"embeddings": EMBEDDINGS},
    "all": {
        "num_ln_layers": 3, "residual": True, "dropout": [0.1, 0.2, 0.3, 0.4],
        "scale_inputs": True, "parametric_activations": True, "embeddings": EMBEDDINGS,
    },
}  # fmt: skip

every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
every_kind = pytest.mark.parametrize("kind", OPTIONS)
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def disturbed(mlp, seed=0):
    """The network with other numbers than those it began with, everywhere; it is returned."""
    rng = np.random.default_rng(seed)
    mlp.parameters *= rng.uniform(0.5, 1.5, mlp.parameters.size)
    mlp.parameters += 0.1 * rng.standard_normal(mlp.parameters.size)
    for layer in mlp.bn_layers:
        layer.alpha = 0.7
        layer.running_mean = rng.standard_normal(layer.running_mean.shape)
        layer.running_var = rng.uniform(0.5, 2, layer.running_var.shape)
    return mlp


def network(kind, dtype, activations=SMOOTH):
    """One of ``OPTIONS``, with numbers as training might leave them."""
    return disturbed(build(SIZES, activations, dtype=dtype, **OPTIONS[kind]))


def of_activation(name, dtype):
    """A network with an activation of that name in its hidden layers, with a number of its own."""
    number = 0.3 if ACTIVATIONS[name].parameter else None
    make = functools.partial(activation_named, name, number)
    return disturbed(build([6, 9, 8, 3], [make, make, Identity], dtype=dtype))


def rows(mlp, count=20):
    """(count, D) rows of x, standard normal."""
    x = np.random.default_rng(5).standard_normal((count, mlp.input_size))
    return x.astype(mlp.dtype)


@st.composite
def networks(draw, dtype=np.float64):
    """Any network at all."""
    widths = st.integers(1, 9)
    sizes = [*draw(st.lists(widths, min_size=1, max_size=4)), draw(st.integers(2, 9))]
    names = [draw(st.sampled_from(sorted(ACTIVATIONS))) for _ in sizes[1:]]
    layers = len(names)
    options = {"bias": draw(st.booleans()), "scale_inputs": draw(st.booleans())}
    norm = draw(st.sampled_from(["num_bn_layers", "num_ln_layers"]))
    options[norm] = draw(st.integers(0, layers))
    if layers > 1:
        options["parametric_activations"] = draw(st.booleans())
    first = sizes[0]
    if draw(st.booleans()):
        columns, outputs = draw(st.integers(1, sizes[0])), draw(widths)
        options["embeddings"] = PeriodicEmbeddings(columns, draw(widths), outputs, seed=0)
        first += columns * outputs
    squares = [a == b for a, b in itertools.pairwise([first, *sizes[1:-1]])]
    front = options["scale_inputs"] or "embeddings" in options
    if any(squares) and not (front and squares[0]):
        options["residual"] = draw(st.booleans())
    options["dropout"] = draw(
        st.lists(st.sampled_from([0.0, 0.3]), min_size=layers, max_size=layers)
    )
    makers = [functools.partial(activation_named, name) for name in names]
    return disturbed(build(sizes, makers, dtype=dtype, **options))
