"""Fits that are interrupted and go on: a table of them, and what must come out equal."""

import copy
import functools
import pickle
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, optimizers, schedules
from fastmlp.callbacks import EarlyStopping
from fastmlp.layers.embedding import PeriodicEmbeddings
from tests.networks import batch, build

ARRAYS = ("parameters", "velocities", "squares", "averages", "statistics")
SIZES = (5, 17, 6, 3)
SAMPLES, BATCH, EPOCHS = 41, 8, 3
STEPS = 6  # of an epoch


class Kind(NamedTuple):
    """A network and how it is trained: arguments of ``build`` and of ``fit``."""

    network: dict
    fit: dict | None = None


def adam(**options):
    return optimizers.Adam(lr=0.01, **options)


WEIGHTS = np.random.default_rng(5).random(SAMPLES)
X, LABELS, _ = batch(SAMPLES, SIZES[0], SIZES[-1])
# Windows of two batches, whose ends lie within blocks.
CUTS = (3, 3, 17, 20, 29)
BLOCKS = list(zip(np.split(X, CUTS), np.split(LABELS, CUTS), strict=True))
WEIGHTED = [(*pair, w) for pair, w in zip(BLOCKS, np.split(WEIGHTS, CUTS), strict=True)]

KINDS = {
    "momentum": Kind({"momentum": 0.9}),
    "float32, batch norm": Kind({"dtype": np.float32, "num_bn_layers": 2, "momentum": 0.9}),
    "bfloat16": Kind({"dtype": "bfloat16", "num_bn_layers": 1, "momentum": 0.9}),
    "Adam with averages": Kind({"lr": None, "optimizer": adam(average=0.9)}),
    "AdamW, decay": Kind(
        {"lr": None, "optimizer": optimizers.AdamW(lr=0.01, weight_decay=0.1), "num_ln_layers": 1},
        {"decay_schedule": lambda t: 1 - t, "lr_schedule": schedules.Cosine(warmup=0.2)},
    ),
    "dropout": Kind(
        {"dropout": [0.1, 0.4, 0.2], "momentum": 0.5},
        {"dropout_schedule": lambda t: t, "lr_schedule": lambda t: 0.1 * (1 - t)},
    ),
    "accumulate, drop last": Kind(
        {"momentum": 0.9, "num_bn_layers": 1}, {"accumulate": 2, "drop_last": True}
    ),
    "accumulate, weights": Kind(
        {"lr": None, "optimizer": adam(clip_norm=1.0)},
        {"accumulate": 4, "sample_weight": WEIGHTS, "shuffle": False},
    ),
    "plateau": Kind(
        {"momentum": 0.9, "lr": 0.5},
        {
            "lr_schedule": schedules.ReduceOnPlateau(0.5, 0, threshold=0.2),
            "validation_data": (X[:9], LABELS[:9]),
        },
    ),
    "max_steps": Kind({"momentum": 0.9}, {"max_steps": 14}),
    "inputs": Kind(
        {
            "scale_inputs": True,
            "parametric_activations": True,
            "embeddings": PeriodicEmbeddings(columns=2, frequencies=3, outputs=2, seed=0),
            "lr": None,
            "optimizer": adam(rate_factors={"scales": 3.0}),
        }
    ),
    "blocks": Kind(
        {"momentum": 0.9, "num_bn_layers": 1, "dropout": 0.2},
        {"x": BLOCKS, "labels": None, "window": 2 * BATCH + 1, "dropout_schedule": lambda t: t},
    ),
    "weighted blocks": Kind(
        {"lr": None, "optimizer": adam()},
        {"x": WEIGHTED, "labels": None, "window": 2 * BATCH, "accumulate": 2},
    ),
    "early stopping": Kind(
        {"num_bn_layers": 1, "lr": 0.7, "momentum": 0.9},
        {"validation_data": (X[:9], LABELS[:9]), "patience": 2, "epochs": 6},
    ),
}

# Kinds that can be trained on shards.
OF_ARRAYS = {name: kind for name, kind in KINDS.items() if "x" not in (kind.fit or {})}


def network(kind):
    """A new one of that kind, the same every time."""
    return build(SIZES, **KINDS[kind].network)


def arguments(kind, callbacks=(), seed=7, **more):
    """Those of ``fit``; with the same, a fit can go on."""
    options = {"epochs": EPOCHS, "batch_size": BATCH, "seed": seed} | (KINDS[kind].fit or {})
    patience = options.pop("patience", None)
    if patience is not None:
        callbacks = [EarlyStopping(patience), *callbacks]
    dtype = np.float32 if KINDS[kind].network.get("dtype") else np.float64
    return {"x": X.astype(dtype), "labels": LABELS, "callbacks": callbacks, **options, **more}


class Interrupt:
    """Presses Ctrl-C when so many steps of the fit are done."""

    def __init__(self, step):
        self.step = step

    def on_progress(self, progress):
        if progress.epoch * progress.steps + progress.step >= self.step:
            raise KeyboardInterrupt


def twin(mlp, way, path):
    """The network once more, by "memory" (itself), "copy", "pickle" or "file"."""
    if way == "file":
        mlp.save(path)
        return MLP.load(path)
    if way == "pickle":
        return pickle.loads(pickle.dumps(mlp))
    return mlp if way == "memory" else copy.deepcopy(mlp)


def outcome(mlp):
    """All that must be equal after two fits, by name; times are not."""
    lists = {k: v for k, v in mlp.history.to_dict().items() if k != "epoch_seconds"}
    figures = {f"history.{name}": np.array(values) for name, values in lists.items()}
    arrays = {name: getattr(mlp, name).copy() for name in ARRAYS}
    counts = {name: np.array(getattr(mlp, name)) for name in ("updates", "dropout_steps")}
    epochs = {"epochs": np.array(len(mlp.history.epoch_seconds))}
    return arrays | figures | counts | epochs | {"lr": np.array(mlp.lr)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_array_equal(value, expected[name], err_msg=name, strict=True)


class Own:
    """A callback with a state of its own: a number, and an array."""

    def __init__(self):
        self.count, self.sums, self.loaded = 0, np.zeros(3), 0

    def on_epoch_end(self, mlp, history):
        self.count += 1
        self.sums += history.train_loss[-1]

    def state_dict(self):
        return {"count": self.count, "sums": self.sums.copy(), "words": ["a", None, True]}

    def load_state_dict(self, state):
        self.loaded += 1
        self.count, self.sums = state["count"], state["sums"]
        assert state["words"] == ["a", None, True]


@functools.cache
def alone(kind):
    """What a fit of that kind ends in that is left alone."""
    mlp = network(kind)
    mlp.fit(**arguments(kind))
    return outcome(mlp)


def interrupted(kind, step, mlp=None, callbacks=(), **more):
    """The network of a fit that was interrupted at a step, or after the last one before it."""
    mlp = mlp or network(kind)
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments(kind, [*callbacks, Interrupt(step)], **more))
    return mlp
