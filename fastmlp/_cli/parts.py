"""The rows of a data set as networks are trained on them, and the network for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..datasets import CLASSIFICATION, Dataset, Schema
from ..initializers import he_normal, xavier_normal, zeros
from ..layers import Identity, MeanSquaredError, SoftmaxCrossEntropy, activation_named
from ..mlp import MLP
from ..presets import Preset, optimizer_for, schedule_for
from .errors import CommandError
from .targets import Units, units_of

VALIDATION_ROWS = 5_000
"""Most rows that are held out of the training part for the curves, or a tenth of it if less."""

Rows = tuple[np.ndarray, np.ndarray]


class DTypes(NamedTuple):
    """Of the parameters, and what products are computed in (None: the same)."""

    parameters: str
    compute: str | None = None


class Moments(NamedTuple):
    """Mean and deviation of all pixels, numbers; or of each column of a table, (D,)."""

    mean: Any
    deviation: Any


class Parts(NamedTuple):
    """Rows to train on and to validate on, and what has been done to them."""

    train: Rows
    validation: Rows | None
    moments: Moments | None  # of the inputs before they were standardised
    units: Units | None  # of the targets before they were
    schema: Schema | None  # of the table that they come from

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
        """Make it a network of inputs and targets as they are in the data, which knows their table.

        Before, it would predict for other rows than those that its schema says.
        """
        if self.moments is not None:
            _take_inputs(mlp, self.moments)
        if self.units is not None:
            self.units.give_to(mlp)
        mlp.schema = self.schema


def parts_of(data: Dataset, validate: bool, standardise: bool) -> Parts:
    """validate : whether rows are held out    standardise : as of ``Preset``

    The numbers of a table, which may be of any size, are standardised in any case. Raises
    CommandError for a table whose schema no file of a network can keep.
    """
    if data.schema is not None:
        try:
            data.schema.check_fits(data.train_x.shape[1], data.num_outputs)
        except ValueError as error:
            raise CommandError(f"{data.name}: {error}") from None
    train, held = _split(data) if validate else ((data.train_x, data.train_y), None)
    units = None if data.task == CLASSIFICATION else units_of(train[1])
    moments = _moments(train[0]) if standardise else None
    if data.image_shape is None and train[0].dtype != np.uint8:
        moments = _moments_of_columns(train[0])
    rows = [part and (_standardised(part[0], moments), part[1]) for part in (train, held)]
    scaled = [part and _scaled(part, units) for part in rows]
    assert scaled[0] is not None
    return Parts(scaled[0], scaled[1], moments, units, data.schema)


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


def _moments(x: np.ndarray) -> Moments:
    """Of all pixels, uint8 counted as fractions of 255."""
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return Moments(float(x.mean() / scale), float(x.std() / scale))


def _moments_of_columns(x: np.ndarray) -> Moments:
    """Those of 0 and 1, of one value, and those that no network can learn from stay as they are."""
    with np.errstate(all="ignore"):
        mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        stay = ((x == 0) | (x == 1)).all(axis=0) | ~(deviation > 0) | ~np.isfinite(deviation)
    mean[stay], deviation[stay] = 0, 1
    return Moments(mean, deviation)


def _standardised(x: np.ndarray, moments: Moments | None) -> np.ndarray:
    if moments is None:
        return x
    dtype, scale = (np.float32, 255.0) if x.dtype == np.uint8 else (x.dtype, 1.0)
    mean, deviation = (np.asarray(scale * moment, dtype) for moment in moments)
    return (x.astype(dtype) - mean) / deviation


def _scaled(rows: Rows, units: Units | None) -> Rows:
    return rows if units is None else (rows[0], units.scaled(rows[1]))


def _take_inputs(mlp: MLP, moments: Moments) -> None:
    """Fold (x - m) / s into the first layer, so that the network takes inputs as they are."""
    mean, deviation = (np.reshape(moment, (-1, 1)) for moment in moments)
    first = mlp.linear_layers[0]
    w = first.W / deviation
    first.b = first.b - (mean * w).sum(axis=0)
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
