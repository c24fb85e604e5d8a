"""RealMLP's training, against plain NumPy in float64; what it restores; RealMLP-TD's options."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp.estimators import RealMLPClassifier, RealMLPRegressor, _realmlp_base
from fastmlp.estimators._folds import folds, random_split
from fastmlp.estimators._recipe import KeepBest, Training, flat_then_cosine
from fastmlp.history import NotFiniteWarning
from tests.realmlp import (
    BATCH,
    TD,
    Reference,
    mish,
    selu,
    softmax_delta,
    split_numbers,
    square_delta,
)

ROWS, EPOCHS = 50, 7  # 3 steps an epoch: the last 2 rows are left out


class Recorded(Training):
    """Remembers every training and the network it began with."""

    seen: list = []  # noqa: RUF012

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.initial = [
            (layer.W * np.sqrt(layer.in_feature), layer.b.copy())
            for layer in self.mlp.linear_layers
        ]
        if self.mlp.embeddings is not None:
            self.embedding = self.mlp._embedding.numbers.copy()
        self.seen.append(self)


@pytest.fixture
def trainings(monkeypatch):
    monkeypatch.setattr(_realmlp_base, "Training", Recorded)
    monkeypatch.setattr(Recorded, "seen", [])
    return Recorded.seen


def data(classes=3, outputs=None, seed=0):
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((ROWS, 5)) ** 3
    x[draws.random(x.shape) < 0.1] = np.nan
    if outputs is None:
        return x, draws.integers(0, classes, ROWS)
    return x, draws.standard_normal((ROWS, outputs)) * 7 + 100


def order_of_epochs(seed):
    """As ``MLP.fit`` draws it."""
    draws, order = np.random.default_rng(seed), np.arange(ROWS)
    for _ in range(EPOCHS):
        draws.shuffle(order)
        yield order.copy()


def assert_same_network(mlp, reference):
    scale, *rest = reference.parameters
    for i, layer in enumerate(mlp.linear_layers):
        w = rest[2 * i] / np.sqrt(layer.in_feature)
        assert_allclose(layer.W, scale.T * w if i == 0 else w, rtol=1e-9, atol=1e-9)
        assert_allclose(layer.b, rest[2 * i + 1], rtol=1e-9, atol=1e-9)


OPTIONS = {
    "hidden_layer_sizes": (17, 8, 3), "batch_size": BATCH, "max_iter": EPOCHS,
    "validation_fraction": 0, "dtype": "float64", "random_state": 3,
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_learns_as_the_paper_says(trainings, weighted, classes):
    x, y = data(classes)
    weights = np.random.default_rng(1).random(ROWS) + 0.1 if weighted else None
    labels = np.array(["one", "three", "two"])[y]
    model = RealMLPClassifier(**OPTIONS).fit(x, labels, weights)
    [training] = trainings
    columns = training.arguments["x"]
    reference = Reference(training.initial, columns.shape[1], selu, softmax_delta, 0.04, 0.1)
    counts = np.ones(ROWS) if weights is None else weights
    reference.train(columns, y, counts, list(order_of_epochs(training.arguments["seed"])))
    assert reference.steps == 21
    assert_same_network(model.network_, reference)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_regressor_learns_as_the_paper_says(trainings, outputs):
    x, y = data(outputs=outputs)
    model = RealMLPRegressor(**OPTIONS).fit(x, y if outputs > 1 else y[:, 0])
    [training] = trainings
    columns = training.arguments["x"]
    reference = Reference(training.initial, columns.shape[1], mish, square_delta, 0.07)
    targets = (y - y.mean(axis=0)) / y.std(axis=0)
    order = list(order_of_epochs(training.arguments["seed"]))
    reference.train(columns, targets, np.ones(ROWS), order)
    assert_same_network(model.network_, reference)


def test_first_weights(trainings):
    """W and b are N(0, 1), but zero in the last layer: every class has the same chance at first."""
    x, y = data()
    RealMLPClassifier(**OPTIONS | {"hidden_layer_sizes": (200, 150), "max_iter": 1}).fit(x, y)
    *hidden, (last_w, last_b) = trainings[0].initial
    assert not last_w.any()
    assert not last_b.any()
    numbers = np.concatenate([array.ravel() for pair in hidden for array in pair])
    # Four standard errors of the mean, of the variance and of the fourth moment.
    count = len(numbers)
    assert abs(numbers.mean()) < 4 / np.sqrt(count)
    assert abs(numbers.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((numbers**4).mean() - 3) < 4 * np.sqrt(96 / count)


# Which epoch is kept


class Watching:
    """Remembers the parameters after every epoch; comes before ``KeepBest``."""

    def __init__(self):
        self.after = []

    def on_epoch_end(self, mlp, history):
        self.after.append(mlp.parameters.copy())


def kept_of(scores, trainings, last_epoch=None):
    """(callback, network, parameters before the training and after every epoch)."""
    x, y = data()
    RealMLPClassifier(**OPTIONS | {"max_iter": 1}).fit(x, y)
    mlp, arguments = trainings[0].mlp, trainings[0].arguments
    left = iter(scores or ())
    best = KeepBest(None if scores is None else lambda mlp: next(left), last_epoch)
    watching = Watching()
    before = mlp.parameters.copy()
    mlp.fit(**arguments | {"epochs": 5, "callbacks": [watching, best]})
    return best, mlp, [before, *watching.after]


@pytest.mark.parametrize(
    ("scores", "epoch"),
    [
        ([1, 2, 3, 4, 5], 5),
        ([5, 4, 3, 2, 1], 1),
        ([1, 3, 3, 2, 1], 3),
        ([1, 3, 2, 3, 2], 4),
        ([2, 2, 2, 2, 2], 5),
        ([np.nan, 1, np.nan, 0, np.nan], 2),
        ([-np.inf, -np.inf, np.nan, np.nan, np.nan], 2),
        ([np.nan] * 5, 0),
        (None, 5),
    ],
)
def test_the_last_of_the_best_epochs_is_kept(scores, epoch, trainings):
    best, mlp, after = kept_of(scores, trainings)
    assert best.epoch == epoch
    assert_array_equal(mlp.parameters, after[epoch])
    assert len(best.scores) == (0 if scores is None else 5)


def test_a_training_can_end_before_its_schedule_does(trainings):
    best, mlp, after = kept_of(None, trainings, last_epoch=3)
    assert best.epoch == 3
    assert len(after) == 4
    assert_array_equal(mlp.parameters, after[3])


def test_what_is_restored_scores_as_it_did():
    x, y = data()
    options = {"max_iter": 12, "validation_fraction": 0.3, "batch_size": 8}
    model = RealMLPClassifier(**OPTIONS | options).fit(x, y)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ == 12
    assert model.best_epoch_ == max(i for i in range(1, 13) if scores[i - 1] == max(scores))
    assert min(scores) < max(scores)


# Training that diverges


@pytest.mark.parametrize("share", [0, 0.2])
def test_a_training_that_diverges_says_so_and_stays_finite(share):
    x, y = data(outputs=1)
    options = {"learning_rate_init": 1e200, "validation_fraction": share}
    with pytest.warns(NotFiniteWarning, match=r"in epoch \d.*lr is 1e\+200"):
        model = RealMLPRegressor(**OPTIONS | options).fit(x, y[:, 0])
    assert np.isfinite(model.network_.parameters).all()
    assert np.isfinite(model.predict(x)).all()
    assert model.n_iter_ < EPOCHS


# Splits


@pytest.mark.parametrize(("rows", "count"), [(10, 2), (17, 5), (100, 3), (5, 5)])
def test_every_row_is_held_out_once(rows, count):
    splits = folds(rows, count, None, np.random.default_rng(0))
    assert len(splits) == count
    assert_array_equal(np.sort(np.concatenate([held for _, held in splits])), np.arange(rows))
    for train, held in splits:
        assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(rows))
        assert rows // count <= len(held) <= rows // count + 1


def test_every_fold_has_its_share_of_every_class():
    classes = np.repeat([0, 1, 2], [7, 50, 3])
    for _, held in folds(60, 5, classes, np.random.default_rng(0)):
        counts = np.bincount(classes[held], minlength=3)
        assert (abs(counts - [1.4, 10, 0.6]) < 1).all()


@pytest.mark.parametrize(
    ("rows", "share", "held"),
    [(2, 0.2, 1), (2, 0.9, 1), (10, 0.2, 2), (3, 0.01, 1), (1000, 0.2, 200)],
)
def test_a_random_share_is_held_out(rows, share, held):
    train, validation = random_split(rows, share, np.random.default_rng(0))
    assert len(validation) == held
    assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(rows))


# RealMLP-TD's options


def test_dropout_and_decay_stay_and_then_fall(trainings):
    x, y = data()
    RealMLPClassifier(**OPTIONS | {"max_iter": 1}).fit(x, y)
    for name in ("dropout_schedule", "decay_schedule"):
        assert trainings[0].arguments[name] is flat_then_cosine
    assert [flat_then_cosine(t) for t in (0, 0.25, 0.5)] == [1, 1, 1]
    assert_allclose([flat_then_cosine(t) for t in (2 / 3, 0.75, 1)], [0.75, 0.5, 0], atol=1e-15)


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("activation", ["selu", "mish"])
def test_a_network_drawn_by_data(trainings, activation, embedded):
    """Products with the training rows deviate by 1, and every bias is a mixture of some of them."""
    x, y = data()
    options = {"init": "data", "activation": activation, "max_iter": 1}
    RealMLPClassifier(**OPTIONS | options, periodic_embedding=embedded).fit(x, y)
    [training] = trainings
    out = training.arguments["x"]
    if embedded:
        w, b, v, c = split_numbers(training.embedding, 5)
        terms = np.cos(2 * np.pi * out[:, :5, None] * w + b)
        numbers = c + np.einsum("njk,jmk->njm", terms, v)
        out = np.concatenate([out, numbers.reshape(len(out), -1)], axis=1)
    function = {"selu": selu, "mish": mish}[activation]
    for w, b in training.initial:
        products = out @ w / np.sqrt(len(w))
        assert_allclose(products.std(axis=0), 1, rtol=1e-12)
        assert (-b[0] >= products.min(axis=0)).all()
        assert (-b[0] <= products.max(axis=0)).all()
        # A mixture of five rows deviates from the mean by less than a row does.
        assert 0 < (b[0] + products.mean(axis=0)).std() < 1.2 or b.size < 5
        out = function(products + b)[0]


def test_a_network_drawn_by_rows_that_are_all_equal():
    model = RealMLPClassifier(**OPTIONS | {"init": "data"})
    assert np.isfinite(
        model.fit(np.ones((40, 3)), np.arange(40) % 2).predict_proba(np.eye(3))
    ).all()


def test_embeddings_parametric_activations_and_decay_as_the_paper_says(trainings):
    """x has 5 columns of numbers, and 5 that tell where one is missing."""
    x, y = data()
    options = {"parametric_activation": True, "weight_decay": 0.5, "periodic_embedding": True}
    model = RealMLPClassifier(**OPTIONS | options).fit(x, y)
    [training] = trainings
    columns = training.arguments["x"]
    assert columns.shape[1] == 10
    embedding = split_numbers(training.embedding, 5)
    assert abs(embedding[0].std() - 0.1) < 0.03
    assert abs(abs(embedding[1]).max() - np.pi) < 0.3
    assert abs(abs(embedding[2]).max() - 0.25) < 0.02
    reference = TD(
        training.initial, 0.5, OPTIONS["hidden_layer_sizes"], embedding, 25, selu, softmax_delta,
        0.04, 0.1,
    )  # fmt: skip
    reference.train(columns, y, np.ones(ROWS), list(order_of_epochs(training.arguments["seed"])))
    assert_same_network(model.network_, reference)
    mixes, learnt = reference.parameters[7 + 2 : 7 + 5], reference.parameters[-4:]
    assert max(abs(mix - 1).max() for mix in mixes) > 0.01
    for kept, expected in zip(model.network_.activation_weights, mixes, strict=True):
        assert_allclose(kept, expected[0], rtol=1e-9)
    for kept, expected in zip(
        split_numbers(model.network_._embedding.numbers, 5), learnt, strict=True
    ):
        assert_allclose(kept, expected, rtol=1e-9, atol=1e-9)


def test_a_table_without_numbers_has_no_embeddings():
    x = np.arange(60).reshape(-1, 1) % 3
    options = {"periodic_embedding": True, "categorical_features": [0]}
    model = RealMLPClassifier(**OPTIONS | options).fit(x, x[:, 0] == 1)
    assert model.network_.embeddings is None


def test_dropout_drops_in_training_alone():
    x, y = data()
    share = {"dropout": 0.5, "hidden_layer_sizes": (64, 64)}
    one, same, none = (
        RealMLPClassifier(**OPTIONS | share | more).fit(x, y).predict_proba(x)
        for more in ({}, {}, {"dropout": 0.0})
    )
    assert_array_equal(one, same)
    assert abs(one - none).max() > 0.01
