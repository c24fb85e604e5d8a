"""What a network is at a moment, by name, and networks of every kind that can be made twice."""

import dataclasses
import pickle

import numpy as np

from fastmlp import (
    ELU,
    GELU,
    Activation,
    BinaryCrossEntropy,
    Huber,
    Identity,
    LeakyReLU,
    MeanSquaredError,
    PeriodicEmbeddings,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
    optimizers,
)
from fastmlp.layers.activation import parameter_of
from fastmlp.layers.loss import arguments_of
from tests.networks import build

ROWS, FEATURES, OUTPUTS = 24, 3, 2
BUFFERS = ("parameters", "gradients", "velocities", "squares", "averages", "statistics")
NUMBERS = (
    "updates", "dropout", "dropout_seed", "dropout_steps", "train_mode", "compute_dtype",
    "batchnorm_reduction",
)  # fmt: skip


# What a network is


def bits_of(array):
    return None if array is None else (array.dtype.str, array.shape, array.tobytes())


def figures_of(history):
    """All that a history says but for the seconds."""
    if history is None:
        return None
    return repr((history.error_name, history.to_dict() | {"epoch_seconds": None}))


def facts(mlp):
    """All that can be seen of a network, by name: equal of networks with equal histories."""
    layers = [*mlp.linear_layers, *mlp.bn_layers, *mlp.ln_layers]
    return {
        **{name: bits_of(getattr(mlp, name)) for name in BUFFERS},
        **{name: getattr(mlp, name) for name in NUMBERS},
        "optimizer": optimizer_of(mlp),
        "history": figures_of(mlp.history),
        "unfinished": repr(mlp.unfinished),
        "output": bits_of(mlp.output),
        "criterion": (type(mlp.criterion), repr(mlp.criterion), arguments_of(mlp.criterion)),
        "activations": [(repr(a), parameter_of(a)) for a in mlp.activations],
        "alphas": [layer.alpha for layer in mlp.bn_layers],
        "layers": [type(layer) for layer in layers],
        "views": [bits_of(getattr(layer, layer.parameters[0][0])) for layer in layers],
        "attributes": sorted(vars(mlp)),
    }


def optimizer_of(mlp):
    """Its class and numbers."""
    optimizer = mlp.optimizer
    fields = {f.name: repr(getattr(optimizer, f.name)) for f in dataclasses.fields(optimizer)}
    return type(optimizer).__name__, optimizer.code, fields


def identities(mlp):
    """Which objects a network consists of, and where its arrays lie."""
    parts = [*mlp.linear_layers, *mlp.bn_layers, *mlp.ln_layers, *mlp.activations]
    places = [getattr(mlp, name).__array_interface__["data"][0] for name in BUFFERS]
    return [*map(id, [mlp.history, mlp.criterion, mlp.optimizer, mlp.output, *parts]), *places]


def generator_bits(generator):
    return repr(generator.bit_generator.state)


def global_bits():
    return pickle.dumps(np.random.get_state())


def assert_same(actual, expected, what=""):
    """Facts of two networks, or of one at two times; the message names those that differ."""
    differ = [name for name, value in expected.items() if actual.get(name) != value]
    assert actual.keys() == expected.keys()
    assert not differ, f"{what}: {', '.join(differ)}"


# Networks of every kind


def signum(gradient, parameter, mean, lr, beta):
    mean = beta * mean + (1 - beta) * gradient
    return parameter - lr * (1.0 if mean > 0 else -1.0), mean


def bend(z):
    return z if z > 0 else z / 4


def bend_slope(z):
    return 1.0 if z > 0 else 0.25


OPTIMIZERS = {
    "momentum": lambda: optimizers.Momentum(0.1, 0.9, 0.001),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "adamw, average": lambda: optimizers.AdamW(0.01, average=0.9, clip_norm=0.5),
    "adagrad": lambda: optimizers.Adagrad(0.05, initial_accumulator_value=0.1),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5),
    "lion": lambda: optimizers.Lion(0.001, weight_decay=0.01),
    "clipped": lambda: optimizers.Momentum(0.1, clip_value=0.1, rate_factors={"biases": 2.0}),
    "own": lambda: optimizers.rule(signum, lr=0.01, beta=0.9),
}
ACTIVATIONS = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "leaky": lambda: LeakyReLU(0.1),
    "negative slope": lambda: LeakyReLU(-0.1),
    "elu": ELU,
    "gelu": GELU,
    "own": lambda: Activation.of(bend, bend_slope),
}
CRITERIA = {
    "classes": SoftmaxCrossEntropy,
    "smoothed": lambda: SoftmaxCrossEntropy(label_smoothing=0.1),
    "weighted": lambda: SoftmaxCrossEntropy(class_weights=[1.0, 3.0]),
    "labels": BinaryCrossEntropy,
    "values": MeanSquaredError,
    "huber": lambda: Huber(0.5, reduction="sum"),
}
# Arguments of MLP beside the sizes.
SHAPES = {
    "plain": ((3, 4, 2), {}),
    "linear": ((3, 2), {}),
    "batch norm": ((3, 4, 2), {"num_bn_layers": 1}),
    "all batch norm": ((3, 4, 2), {"num_bn_layers": 2, "batchnorm_reduction": "mean"}),
    "layer norm": ((3, 4, 4, 2), {"num_ln_layers": 2, "residual": True}),
    "residual": ((3, 4, 4, 2), {"residual": True, "num_bn_layers": 1}),
    "parametric": ((3, 4, 2), {"parametric_activations": True, "scale_inputs": True}),
    "embedded": ((3, 4, 2), {"embeddings": PeriodicEmbeddings(2, 3, 2, seed=5)}),
}
DTYPES = (np.float64, np.float32, "bfloat16")
DROPOUTS = (0.0, 0.3, "x")


def network(shape, dtype, optimizer, activation, criterion, dropout):
    """The same one for the same names, of the tables above."""
    sizes, options = SHAPES[shape]
    shares = [0.2] + [0.0] * (len(sizes) - 2) if dropout == "x" else dropout
    mlp = build(
        sizes, [ACTIVATIONS[activation]] * (len(sizes) - 2) + [Identity], dtype=dtype, lr=None,
        optimizer=OPTIMIZERS[optimizer](), dropout=shares, dropout_seed=11, **options,
    )  # fmt: skip
    mlp.criterion = CRITERIA[criterion]()
    return mlp


class Data:
    """Rows, and targets that every criterion takes; nobody can write to them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((ROWS, FEATURES))
        self.x = {
            "float64": x,
            "float32": x.astype(np.float32),
            "uint8": rng.integers(0, 256, (ROWS, FEATURES), np.uint8),
            "reversed": x[::-1],
        }
        self.classes = rng.integers(0, OUTPUTS, ROWS)
        self.rows = np.eye(OUTPUTS)[self.classes]
        self.values = rng.standard_normal((ROWS, OUTPUTS))
        self.weights = rng.uniform(0.5, 2, ROWS)
        self.weights[3] = 0
        for array in (*self.x.values(), self.classes, self.rows, self.values, self.weights):
            array.flags.writeable = False

    def targets(self, mlp):
        if isinstance(mlp.criterion, SoftmaxCrossEntropy):
            return self.classes
        return self.values if mlp.criterion.of_values else self.rows


DATA = Data()
X = DATA.x["float64"]


def fit(mlp, **options):
    given = {"x": X, "labels": DATA.targets(mlp), "batch_size": 8} | options
    return mlp.fit(**given)
