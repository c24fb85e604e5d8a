"""How RealMLP trains a network, and which of its epochs it keeps.

Reference: Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and
boosted trees on tabular data", 2024, table A.1, columns RealMLP-TD-S and RealMLP-TD.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..history import FitPlan, History
from ..layers import Criterion, activation_named
from ..layers.embedding import PeriodicEmbeddings
from ..mlp import MLP
from ..optimizers import Adam, AdamW
from ..schedules import Schedule

# How fast parameters learn, as multiples of the learning rate.
RATE_FACTORS = {"scales": 6.0, "weights": 1.0, "biases": 0.1, "activations": 0.1, "embeddings": 0.1}
BETAS = (0.9, 0.95)

# As many rows tell the deviation of a neuron's outputs to about one part in a hundred.
_ROWS_FOR_DEVIATIONS = 4096
# A bias of the initialisation by data is a mean of so many of its neuron's outputs.
_ROWS_FOR_BIASES = 5


class Recipe(NamedTuple):
    """What a network is made of and how it is trained."""

    hidden: tuple[int, ...]
    activation: str
    rate: float
    batch_size: int
    epochs: int
    parametric: bool
    dropout: float
    decay: float
    by_data: bool
    # How many of the first columns have periodic embeddings.
    embedded: int
    dtype: np.dtype[Any]
    compute_dtype: str | None


class Rows(NamedTuple):
    """Preprocessed columns, (N, d), what the criterion takes as targets, and weights, (N,)."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None

    def take(self, indices: np.ndarray) -> Rows:
        weights = None if self.weights is None else self.weights[indices]
        return Rows(self.x[indices], self.y[indices], weights)


class Task(NamedTuple):
    """What a network is for."""

    outputs: int
    criterion: Criterion
    # Of a network and the validation rows: a number, the better the larger.
    score: Callable[[MLP, Rows], float]


class CosLog(Schedule):
    """(1 - cos(2 pi log2(1 + 15 t))) / 2 of the progress t: four cycles, each twice as long."""

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        progress = steps / plan.total_steps
        return (1 - np.cos(2 * np.pi * np.log2(1 + 15 * progress))) / 2


def flat_then_cosine(progress: float) -> float:
    """1 in the first half of a training, then along half a cosine to 0."""
    return (1 + math.cos(math.pi * max(0.0, 2 * progress - 1))) / 2


class KeepBest:
    """Leaves the network as of the last epoch that was at least as good as all before.

    score : of the network, called after every epoch; None keeps the last epoch
    last_epoch : ends the training after that one, counted from 1

    An epoch after which a parameter or the score is no finite number is never kept; where there is
    no other, the network is left as it was before the first.

    scores : of every epoch     epoch : the one that is kept, counted from 1; 0 for none
    """

    def __init__(self, score: Callable[[MLP], float] | None, last_epoch: int | None = None) -> None:
        self._score, self._last_epoch = score, last_epoch
        self.scores: list[float] = []
        self.epoch = 0

    def on_train_begin(self, mlp: MLP, plan: FitPlan) -> None:
        self._best, self._kept = -np.inf, mlp.parameters.copy()

    def on_epoch_end(self, mlp: MLP, history: History) -> bool:
        epochs = len(history.train_loss)
        parameters = mlp.parameters
        score = self._best
        if self._score is not None:
            # Of a training that diverges, whose outputs may be as large as numbers can be.
            with np.errstate(all="ignore"):
                score = self._score(mlp)
            self.scores.append(score)
        if score >= self._best and np.isfinite(parameters).all():
            self._best, self.epoch = score, epochs
            self._kept[...] = parameters
        return epochs == self._last_epoch

    def on_train_end(self, mlp: MLP, history: History) -> None:
        mlp.parameters = self._kept


class Training:
    """A network and all that ``MLP.fit`` takes to train it."""

    def __init__(
        self, recipe: Recipe, task: Task, rows: Rows, validation: Rows | None, seed: int,
        last_epoch: int | None = None,
    ) -> None:  # fmt: skip
        """seed : of the first weights and of the order of the rows."""
        generator = np.random.default_rng([seed, 1])
        self.mlp = new_network(recipe, task, rows.x.shape[1], generator)
        if recipe.by_data:
            draw_by_data(self.mlp, rows.x, generator)
        else:
            draw(self.mlp, generator)
        score = None if validation is None else (lambda mlp: task.score(mlp, validation))
        self.best = KeepBest(score, last_epoch)
        self.arguments: dict[str, Any] = {
            "x": rows.x, "labels": rows.y, "sample_weight": rows.weights,
            "epochs": recipe.epochs, "batch_size": min(recipe.batch_size, len(rows.x)),
            "drop_last": True,
            "lr_schedule": CosLog(), "seed": seed, "callbacks": [self.best],
            "decay_schedule": flat_then_cosine, "dropout_schedule": flat_then_cosine,
        }  # fmt: skip

    @property
    def losses(self) -> list[float]:
        """Of every epoch that has been trained."""
        history = self.mlp.history
        return [] if history is None else history.train_loss


def new_network(recipe: Recipe, task: Task, inputs: int, generator: np.random.Generator) -> MLP:
    """A network of zeros: embeddings, then a scale of 1 for every column, then linear layers.

    The embeddings are PBLD's, drawn already: 16 frequencies and 3 numbers for each column that has
    some. The linear layers' V = W / sqrt(fan_in), with ``ntk``, learn as the paper's W do in
    y = x W / sqrt(fan_in) + b. Decay is decoupled, of weights and embeddings alone.
    """
    hidden = [activation_named(recipe.activation) for _ in recipe.hidden]
    embeddings = None
    if recipe.embedded:
        seed = int(generator.integers(1 << 63))
        embeddings = PeriodicEmbeddings(recipe.embedded, sigma=0.1, seed=seed)
    return MLP(
        inputs, task.outputs, recipe.hidden, [*hidden, activation_named("identity")],
        lambda fan_in, fan_out: np.zeros((fan_in, fan_out)),
        lambda fan_out: np.zeros((1, fan_out)),
        task.criterion, dtype=recipe.dtype, compute_dtype=recipe.compute_dtype, scale_inputs=True,
        parametric_activations=recipe.parametric, dropout=recipe.dropout, embeddings=embeddings,
        optimizer=AdamW(
            recipe.rate, BETAS, weight_decay=recipe.decay, rate_factors=RATE_FACTORS, ntk=True
        ),
    )  # fmt: skip


def draw(mlp: MLP, generator: np.random.Generator) -> None:
    """Weights W and biases from N(0, 1), layer by layer, but those of the last layer."""
    for layer in mlp.linear_layers[:-1]:
        layer.W = generator.standard_normal(layer.W.shape) / np.sqrt(layer.in_feature)
        layer.b = generator.standard_normal(layer.b.shape)


def draw_by_data(mlp: MLP, x: np.ndarray, generator: np.random.Generator) -> None:
    """Weights by which every neuron's products with rows of x deviate by 1, and biases that are
    mixtures of five of these products each, below 0, so that every neuron's kink is among the rows.

    Of all layers. Reference: the paper's table A.1, "he+5" of Steinwart, "A sober look at neural
    network initializations", 2019.
    """
    chosen = generator.permutation(len(x))[:_ROWS_FOR_DEVIATIONS]
    out = x[chosen]
    if mlp._embedding is not None:
        out = mlp._embedding.forward(out)
    out = out.astype(np.float64)
    for layer, activation in zip(mlp.linear_layers, mlp.activations, strict=True):
        weights = generator.standard_normal(layer.W.shape)
        products = out @ weights
        deviations = products.std(axis=0)
        # Where all rows are equal, whatever the weights, they are as they were drawn.
        deviations = np.where(deviations > 0, deviations, np.sqrt(len(weights)))
        products /= deviations
        rows = generator.integers(len(out), size=(_ROWS_FOR_BIASES, layer.out_feature))
        shares = generator.standard_exponential(rows.shape)
        shares /= shares.sum(axis=0)
        biases = -(shares * np.take_along_axis(products, rows, axis=0)).sum(axis=0)
        layer.W, layer.b = weights / deviations, biases[None]
        out = activation.forward(products + biases)


def folded(mlp: MLP) -> MLP:
    """A network with the same outputs, the scale of the inputs in its first weights."""
    weights = iter([layer.W for layer in mlp.linear_layers])
    biases = iter([layer.b for layer in mlp.linear_layers])
    plain = MLP(
        mlp.input_size, mlp.output_size, mlp.hiddens, list(mlp.activations),
        lambda fan_in, fan_out: next(weights), lambda fan_out: next(biases),
        mlp.criterion, dtype=mlp.dtype, compute_dtype=mlp.compute_dtype, optimizer=Adam(mlp.lr),
        parametric_activations=mlp.parametric_activations, embeddings=mlp.embeddings,
    )  # fmt: skip
    for new, learnt in zip(plain.activation_weights, mlp.activation_weights, strict=True):
        new[...] = learnt
    if plain._embedding is not None and mlp._embedding is not None:
        plain._embedding.numbers = mlp._embedding.numbers
    first, scale = plain.linear_layers[0], np.asarray(mlp.input_scale, np.float64)
    first.W = first.W * scale[:, None]
    plain.eval()
    return plain
