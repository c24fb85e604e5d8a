"""The rows of a data set as networks are trained on them, and the network for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..datasets import CLASSIFICATION, Dataset
from ..initializers import he_normal, xavier_normal, zeros
from ..layers import Identity, MeanSquaredError, SoftmaxCrossEntropy, activation_named
from ..mlp import MLP
from ..presets import Preset, optimizer_for, schedule_for
from .targets import Units, units_of

VALIDATION_ROWS = 5_000
"""Most rows that are held out of the training part for the curves, or a tenth of it if less."""

Rows = tuple[np.ndarray, np.ndarray]


class DTypes(NamedTuple):
    """Of the parameters, and what products are computed in (None: the same)."""

    parameters: str
    compute: str | None = None


class Parts(NamedTuple):
    """Rows to train on and to validate on, and what has been done to them."""

    train: Rows
    validation: Rows | None
    moments: tuple[float, float] | None  # of the pixels before they were standardised
    units: Units | None  # of the targets before they were

    def arguments(self, preset: Preset, seed: int) -> dict[str, Any]:
        """Those of ``fit``."""
        x, labels = self.train
        return {
            "x": x,
            "labels": labels,
            "epochs": preset.epochs,
            "batch_size": preset.batch_size,
            "max_steps": preset.max_steps,
            "seed": seed,
            "validation_data": self.validation,
            "lr_schedule": schedule_for(preset, self.validation is not None),
        }

    def undo(self, mlp: MLP) -> None:
        """Make it a network of pixels and targets as they are in the data."""
        if self.moments is not None:
            _take_pixels(mlp, *self.moments)
        if self.units is not None:
            self.units.give_to(mlp)


def parts_of(data: Dataset, validate: bool, standardise: bool) -> Parts:
    """validate : whether rows are held out    standardise : as of ``Preset``"""
    train, validation = _split(data) if validate else ((data.train_x, data.train_y), None)
    units = None if data.task == CLASSIFICATION else units_of(train[1])
    moments = _moments(train[0]) if standardise else None
    rows = train if moments is None else (_standardised(train[0], moments), train[1])
    held = None if validation is None else _scaled(validation, units)
    return Parts(_scaled(rows, units), held, moments, units)


def _split(data: Dataset) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those to validate on, or None.

    Without a validation part, a random tenth of the training part is held out, the same each time:
    the file may be sorted by class.
    """
    if data.valid_x is not None and data.valid_y is not None:
        return (data.train_x, data.train_y), (data.valid_x, data.valid_y)
    rows = len(data.train_y)
    count = min(rows // 10, VALIDATION_ROWS)
    if count == 0:
        return (data.train_x, data.train_y), None
    held = np.zeros(rows, bool)
    held[np.random.default_rng(0).permutation(rows)[:count]] = True
    return (data.train_x[~held], data.train_y[~held]), (data.train_x[held], data.train_y[held])


def _moments(x: np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of all pixels, uint8 counted as fractions of 255."""
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return float(x.mean() / scale), float(x.std() / scale)


def _standardised(x: np.ndarray, moments: tuple[float, float]) -> np.ndarray:
    mean, deviation = moments
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return (x.astype(np.float32) - np.float32(scale * mean)) / np.float32(scale * deviation)


def _scaled(rows: Rows, units: Units | None) -> Rows:
    return rows if units is None else (rows[0], units.scaled(rows[1]))


def _take_pixels(mlp: MLP, mean: float, deviation: float) -> None:
    """Fold (x - m) / s into the first layer, so that the network takes plain pixels."""
    first = mlp.linear_layers[0]
    w = first.W / deviation
    first.b = first.b - mean * w.sum(axis=0)
    first.W = w


# Activations that are flat on both sides, for which Glorot and Bengio derive their deviation.
_SATURATING = ("sigmoid", "hard_sigmoid", "tanh", "softsign", "identity")


def network_of(data: Dataset, preset: Preset, seed: int, dtypes: DTypes) -> MLP:
    """A new one of a preset."""
    initializer = xavier_normal if preset.activation in _SATURATING else he_normal
    hidden = [activation_named(preset.activation) for _ in preset.hidden]
    classes = data.task == CLASSIFICATION
    criterion = SoftmaxCrossEntropy(preset.label_smoothing) if classes else MeanSquaredError()
    return MLP(
        data.train_x.shape[1],
        data.num_outputs,
        list(preset.hidden),
        [*hidden, Identity()],
        initializer(seed, dtypes.parameters),
        zeros,
        criterion,
        num_bn_layers=len(preset.hidden) if preset.batchnorm else 0,
        num_ln_layers=len(preset.hidden) if preset.layernorm else 0,
        optimizer=optimizer_for(preset),
        compute_dtype=dtypes.compute,
        dropout=[preset.input_dropout, *(preset.dropout for _ in preset.hidden)],
    )
