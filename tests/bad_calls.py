"""Calls that must be refused, as functions of a network and a generator, by what is wrong."""

import re

import numpy as np

import fastmlp
from fastmlp import (
    Identity,
    MeanSquaredError,
    PeriodicEmbeddings,
    ReLU,
    SoftmaxCrossEntropy,
    optimizers,
    schedules,
)
from fastmlp.callbacks import Checkpoint, EarlyStopping
from fastmlp.datasets import Column, Schema
from tests.network_states import BUFFERS, DATA, FEATURES, OUTPUTS, ROWS, X, fit, network


def changed(array, value):
    """A copy with one entry changed."""
    array = np.array(array)
    array.flat[array.size // 2] = value
    return array


def divide_by_zero(progress):
    return 1 / 0


class Mute:
    """No callback: it has none of the methods."""


BAD_X = {
    "narrow": X[:, :2],
    "rank 1": X[0],
    "empty": X[:0],
    "complex": X.astype(complex),
    "strings": X.astype(str),
    "None": None,
    "integers no float64 holds": np.full((ROWS, FEATURES), 2**53 + 1),
}


class Counted(list):
    """Blocks that say how many rows they have."""

    row_counts = property(lambda self: [len(x) for x, _ in self])


BAD_BLOCKS = {
    "none": [],
    "an array": X,
    "x alone": [X],
    "narrow": [(X[:, :2], np.zeros(ROWS, int))],
    "labels short": [(X, np.zeros(ROWS - 1, int))],
    "NaN": [(changed(X, np.nan), np.zeros(ROWS, int))],
    "negative weights": [(X, np.zeros(ROWS, int), -np.ones(ROWS))],
    "no rows": [(X[:0], np.zeros(0, int))],
}
BAD_OPTIONS = {
    "epochs": (-1, 1.5, "2", None, True),
    "batch_size": (0, -8, 2.5, "8", None),
    "max_steps": (-1, 1.5, "3"),
    "shuffle": ("no", 2, None, "block"),
    "window": (0, -1, 1.5, "many", 64),
    "seed": ("seven", -1, 1.5),
    "sample_weight": (
        np.ones(ROWS - 1), -np.ones(ROWS), changed(np.ones(ROWS), np.nan), np.zeros(ROWS), "ones",
        3,
    ),
    "validation_data": (
        (), (X,), X, (X, np.zeros(3, int)), (X[:, :2], DATA.classes), "none", 3,
        (X, DATA.rows, -np.ones(ROWS)),
    ),
    "callbacks": (3, None, [3], [Mute()], [EarlyStopping], [print]),
    "progress": ("yes", 2),
    "lr_schedule": (
        "cosine", "cosin", schedules.Cosine, [0.1], [], changed(np.ones(3), np.nan), -np.ones(3),
        np.ones((3, 1)), divide_by_zero, lambda t: "fast", 3, object(),
        schedules.Cosine(restarts=10**6), schedules.ReduceOnPlateau(monitor="val_loss"),
    ),
    "check_finite": ("no", 2),
    "accumulate": (0, -1, 1.5),
    "drop_last": ("no", 1),
    "decay_schedule": (3, divide_by_zero, lambda t: -1.0, lambda t: np.nan, schedules.Cosine),
    "dropout_schedule": (3, divide_by_zero, lambda t: 1.5, lambda t: -1.0, lambda t: None),
    "comm": (3, "world"),
    "shards": (0, -1, 1.5, "8", True),
}  # fmt: skip
BAD_NUMBERS = {
    "lr": (-1, np.nan, np.inf, "0.1", None, True),
    "dropout": (1, -0.1, "half", [], [0.0] * 9, None),
    "dropout_seed": (-1, 2**64, 1.5, "seven"),
    "dropout_steps": (-1, 2**64, 1.5, None),
    "updates": (-1, 1.5, None, "two"),
    "train_mode": ("no", None, 2),
    "compute_dtype": ("float16", "bfloat", 16, np.float32),
    "criterion": (
        3, None, MeanSquaredError, "mse", SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 3.0]),
    ),
    "batchnorm_reduction": ("max", None, 3),
    "history": (3, [], {}),
    "optimizer": (3, None, optimizers.Adam, "adam"),
    "schema": (3, "table", {}, Schema((Column("a"),), ("b",), ("c", "d"), "float64")),
    # What a network is made of.
    "input_size": (5,),
    "output_size": (3,),
    "hiddens": ((9,), [4]),
    "nlayers": (1,),
    "num_bn_layers": (0, 1),
    "num_ln_layers": (0, 1),
    "residual": (True, False),
    "scale_inputs": (True, False),
    "parametric_activations": (True, False),
    "embeddings": (None, PeriodicEmbeddings(1)),
    "dtype": (np.float32, np.float64),
    "bn": (True, False),
    "buffers": (None,),
    "layout": (None,),
    "drops": (True,),
    "activation_weights": ([],),
    # What it does not have.
    "learning_rate": (0.1,),
    "weigth_decay": (0.1,),
    "fitt": (3,),
    "activations": ((), [ReLU()] * 9, [ReLU(), "relu"], ReLU(), None, [3] * 3, [ReLU] * 2),
    "linear_layers": ((), [3, 3], None, "layers"),
    "bn_layers": ([3] * 9, None),
    "ln_layers": ([3] * 9, None),
}  # fmt: skip
BAD_OF_OPTIMIZERS = {
    "lr": (-1, np.nan, "fast", None),
    "weight_decay": (-1, np.inf, "little"),
    "decay_all": ("no", 2, None),
    "clip_value": (0, -1, np.nan, "x"),
    "clip_norm": (0, -1, np.inf, "x"),
    "average": (1, -0.1, "x"),
    "rate_factors": ({"weigths": 1.0}, {"weights": -1.0}, 3, [1.0]),
    "betas": ((0.9,), (0.9, 1.0), 0.9),
    "momentum": (1, -0.1, np.nan),
    "nesterov": ("yes", 2),
    "learning_rate": (0.1,),
    "rule": ("adam",),
    "states": (2,),
}
BAD_ARRAYS = {
    "narrow": lambda a: np.zeros((*a.shape[:-1], a.shape[-1] + 1)),
    "rank": lambda a: np.zeros((*a.shape, 1)),
    "number": lambda a: 3.0,
    "complex": lambda a: a.astype(complex),
    "strings": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "None": lambda a: None,
    "too large for its dtype": lambda a: (
        np.full(a.shape, 1e300) if a.dtype == np.float32 and a.size else None
    ),
}


def _bad_fits():
    for name, values in BAD_OPTIONS.items():
        for value in values:
            yield (
                f"fit({name}={value!r:.40})",
                lambda m, g, n=name, v=value: fit(m, **({"seed": g} | {n: v})),
            )
    for name, x in BAD_X.items():
        yield f"fit, x {name}", lambda m, g, x=x: fit(m, x=x, seed=g)
        yield (
            f"fit, validation x {name}",
            lambda m, g, x=x: fit(m, validation_data=(x, DATA.targets(m)), seed=g),
        )
    for value in (np.nan, np.inf):
        yield f"fit, x with {value}", lambda m, g, v=value: fit(m, x=changed(X, v), seed=g)
        yield (
            f"fit, validation x with {value}",
            lambda m, g, v=value: fit(m, validation_data=(changed(X, v), DATA.targets(m)), seed=g),
        )
    yield "fit, labels short", lambda m, g: fit(m, labels=DATA.targets(m)[:-1], seed=g)
    yield "fit, labels rank 3", lambda m, g: fit(m, labels=DATA.rows[:, :, None], seed=g)
    yield "fit, labels strings", lambda m, g: fit(m, labels=DATA.classes.astype(str), seed=g)
    yield "fit, no arguments", lambda m, g: m.fit()
    for name, blocks in BAD_BLOCKS.items():
        yield f"fit, blocks, {name}", lambda m, g, b=blocks: m.fit(b, seed=g)
    yield (
        "fit, labels beside blocks",
        lambda m, g: m.fit(Counted([(X, DATA.targets(m))]), DATA.targets(m), seed=g),
    )
    yield (
        "fit, weights beside blocks",
        lambda m, g: m.fit([(X, DATA.targets(m))], sample_weight=np.ones(ROWS), seed=g),
    )
    yield "fit, misspelt", lambda m, g: fit(m, epoch=2, seed=g)
    yield "fit, whole batch missing", lambda m, g: fit(m, batch_size=99, drop_last=True, seed=g)
    yield "fit, nothing to monitor", lambda m, g: fit(m, callbacks=[EarlyStopping(1)], seed=g)
    yield (
        "fit, nothing to keep the best by",
        lambda m, g: fit(m, callbacks=[Checkpoint("never", monitor="val_error")], seed=g),
    )


def _bad_assignments():
    for name, values in BAD_NUMBERS.items():
        for value in values:
            yield f"{name} = {value!r:.40}", lambda m, g, n=name, v=value: setattr(m, n, v)
        yield f"del {name}", lambda m, g, n=name: delattr(m, n)
    for name, values in BAD_OF_OPTIMIZERS.items():
        for value in values:
            yield (
                f"optimizer.{name} = {value!r:.40}",
                lambda m, g, n=name, v=value: setattr(m.optimizer, n, v),
            )
    for kind, make in BAD_ARRAYS.items():
        for name in BUFFERS:
            yield f"{name} = {kind}", lambda m, g, n=name, f=make: setattr(m, n, f(getattr(m, n)))
        for name in ("W", "b", "dW", "momentum_b"):
            yield (
                f"layer.{name} = {kind}",
                lambda m, g, n=name, f=make: setattr(
                    m.linear_layers[-1], n, f(getattr(m.linear_layers[-1], n))
                ),
            )
    for name, value in (("in_feature", 9), ("out_feature", 9)):
        yield (
            f"layer.{name} = {value}",
            lambda m, g, n=name, v=value: setattr(m.linear_layers[0], n, v),
        )
    yield "nesterov without momentum", _nesterov_without_momentum
    yield "a layer twice", lambda m, g: setattr(m, "linear_layers", [m.linear_layers[0]] * 2)
    yield (
        "layers the other way round",
        lambda m, g: setattr(m, "linear_layers", [*m.linear_layers[::-1], 3]),
    )
    yield (
        "a layer of another network",
        lambda m, g: m.linear_layers.__setitem__(
            0, network("plain", np.float64, "adam", "relu", "classes", 0).linear_layers[0]
        ),
    )
    yield "a layer too many", lambda m, g: m.linear_layers.__setitem__(9, m.linear_layers[0])
    yield "activation by name", lambda m, g: m.activations.__setitem__(0, "relu")
    yield "begun again", lambda m, g: m.__init__(3, 2, [], [Identity()], None, None, None)


def _nesterov_without_momentum(mlp, generator):
    if not isinstance(mlp.optimizer, optimizers.SGD):
        raise TypeError
    mlp.momentum = 0


def _bad_steps():
    for name, x in BAD_X.items():
        yield f"forward, x {name}", lambda m, g, x=x: m.forward(x)
        yield f"evaluate, x {name}", lambda m, g, x=x: m.evaluate(x, DATA.targets(m))
        if name != "empty":
            yield f"predict, x {name}", lambda m, g, x=x: m.predict(x)
    short = np.zeros((ROWS + 1, OUTPUTS))
    for name in ("backward", "error", "total_loss"):
        yield f"{name}, labels", lambda m, g, n=name: getattr(m, n)(short)
    yield "backward, weights", lambda m, g: m.backward(DATA.rows, sample_weight=np.ones(3))
    yield "score, labels", lambda m, g: m.score(X, short)
    yield "save, dtype", lambda m, g: m.save("never", weights_dtype="float16")
    yield "save, no folder", lambda m, g: m.save("no/such/folder/never")
    yield "save, a folder", lambda m, g: m.save("/")
    yield "save, no path", lambda m, g: m.save(3)
    sets = ((X, DATA.rows),) * 3
    wrong = ((X[:, :2], DATA.rows), sets[0], sets[0])
    for dset, epochs, size in ((wrong, 1, 8), (sets, -1, 8), (sets, 1, 0), ((), 1, 8), (3, 1, 8)):
        yield (
            f"get_training_stats, {epochs}, {size}",
            lambda m, g, a=(dset, epochs, size): fastmlp.get_training_stats(m, *a),
        )


# Without addresses, which differ between the processes that share the tests.
BAD_CALLS = [
    (re.sub(" at 0x[0-9a-f]*", "", name), call)
    for name, call in (*_bad_fits(), *_bad_assignments(), *_bad_steps())
]
