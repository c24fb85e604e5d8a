"""Single cases of what ``test_state_machine`` finds by chance: refused with words that help."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import (
    MLP,
    Activation,
    BatchNorm,
    Criterion,
    MeanSquaredError,
    datasets,
    get_training_stats,
    optimizers,
)
from fastmlp.callbacks import Checkpoint, EarlyStopping
from tests.network_states import assert_same, facts
from tests.networks import batch, build, train_by_hand

X, LABELS, Y = batch(24, 3, 2)


def network(**options):
    return build([3, 4, 2], num_bn_layers=1, momentum=0.9, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: m.fit(X, LABELS, lr_schedule="cosine"),
            TypeError,
            r"object of a class in fastmlp\.schedules, .*got 'cosine'; did you mean 'Cosine'\?",
        ),
        (
            lambda m: m.fit(X, LABELS, lr_schedule=object()),
            TypeError,
            "one rate per step, got <obj",
        ),
        (lambda m: datasets.load("minst"), ValueError, r"got 'minst'; did you mean 'mnist'\?"),
        (
            lambda m: setattr(m, "learning_rate", 3),
            AttributeError,
            r"MLP has no attribute 'learning_rate'; .*underscore.*; did you mean 'lr'\?",
        ),
        (lambda m: setattr(m, "momentun", 0.5), AttributeError, r"did you mean 'momentum'\?"),
        (lambda m: setattr(m, "mine", 3), AttributeError, r"class derived from MLP$"),
        (
            lambda m: setattr(m, "hiddens", (9,)),
            AttributeError,
            "hiddens cannot be changed, .*: make another MLP",
        ),
        (lambda m: delattr(m, "history"), AttributeError, "history cannot be deleted"),
        (
            lambda m: setattr(m.optimizer, "learning_rate", 3),
            AttributeError,
            r"Momentum has no learning_rate; did you mean 'lr'\?",
        ),
        (lambda m: setattr(m, "criterion", "mse"), TypeError, "of class Criterion, got 'mse'"),
        (lambda m: setattr(m, "train_mode", "no"), TypeError, "True or False, got 'no'"),
        (lambda m: optimizers.SGD(nesterov="yes"), TypeError, "nesterov.*True or False, got 'yes'"),
        (lambda m: MLP(learning_rate=0.1), TypeError, r"no argument 'learning_rate'.*'lr'\?"),
    ],
)
def test_words(call, error, message):
    with pytest.raises(error, match=message):
        call(network())


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no such file in {tmp_path}: 'nothere'"):
        MLP.load("nothere")
    network().save("there.safetensors")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'there\.safetensors'\?") as raised:
        MLP.load("nothere.safetensors")
    assert raised.value.filename == "nothere.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no such file in .*folder: 'folder/network'"):
        MLP.load("folder/network")


class Named(MLP):
    """A class of the user's own: anything can be set."""


def test_what_belongs_to_the_user():
    mlp, named = network(), build([3, 4, 2], cls=Named)
    mlp._name, named.name = "first", "second"
    mlp.predict = lambda x: "mine"
    assert copy.deepcopy(mlp)._name == "first"
    assert pickle.loads(pickle.dumps(named)).name == "second"
    assert mlp.predict(X) == "mine"
    del mlp.predict, mlp._name, named.name
    assert mlp.predict(X).shape == (24,)


def test_a_refused_fit_does_not_settle_what_is_to_be_measured():
    mlp = network(dtype=np.float32, compute_dtype="auto")
    mlp.criterion = Criterion.of(lambda z, y: "no number", lambda z, y: "no number")
    before = facts(mlp) | {"criterion": None}
    with pytest.raises(TypeError):
        mlp.fit(X, Y)
    assert_same(facts(mlp) | {"criterion": None}, before)
    mlp.criterion = MeanSquaredError()
    mlp.fit(X, Y)
    assert mlp.compute_dtype in ("float32", "bfloat16")


@pytest.mark.parametrize("callback", [EarlyStopping(1), Checkpoint("never", monitor="val_loss")])
def test_a_callback_refuses_a_fit_before_anything_changes(callback):
    mlp = network(dropout=0.5)
    mlp.fit(X, LABELS, seed=0)
    before, generator = facts(mlp), np.random.default_rng(1)
    history, drawn = mlp.history, generator.bit_generator.state
    with pytest.raises(ValueError, match="needs validation_data in fit, got none"):
        mlp.fit(X, LABELS, seed=generator, callbacks=[callback])
    assert_same(facts(mlp), before)
    assert mlp.history is history
    assert generator.bit_generator.state == drawn


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("how", ["fit", "get_training_stats"])
def test_the_history_is_that_of_the_fit_that_ends_last(how):
    """Also where a callback has trained the network itself."""
    inner = []

    class Train:
        def on_epoch_end(self, mlp, history):
            if how == "fit":
                inner.append(mlp.fit(X, LABELS, seed=0))
            else:
                get_training_stats(mlp, ((X, Y),) * 3, 1, 8)
                inner.append(mlp.history)
            assert mlp.history is inner[-1]

        def on_train_end(self, mlp, history):
            assert mlp.history is history

    mlp = network()
    history = mlp.fit(X, LABELS, epochs=2, seed=0, callbacks=[Train()])
    assert mlp.history is history
    assert len(history.train_loss) == 2
    assert [len(h.train_loss) for h in inner] == [1, 1]


def test_averages_begin_when_they_are_asked_for(tmp_path):
    """From the parameters of that moment on, and end when they are not wanted any more."""
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    mlp, plain = network(), network()
    train_by_hand(mlp, X, LABELS)
    assert mlp.averages.size == 0
    mlp.optimizer.average = 0.5
    before = mlp.parameters.copy()
    assert_array_equal(mlp.averages, before)
    train_by_hand(mlp, X, LABELS)
    np.testing.assert_allclose(mlp.averages, 0.5 * before + 0.5 * mlp.parameters, rtol=1e-14)
    mlp.save(tmp_path / "network")
    assert_array_equal(MLP.load(tmp_path / "network").averages, mlp.averages)
    mlp.optimizer.average = None
    assert mlp.averages.size == 0
    train_by_hand(plain, X, LABELS, 2)
    assert_array_equal(mlp.parameters, plain.parameters)


def test_an_optimizer_that_a_network_had_before_is_its_no_more():
    mlp = network()
    former, copied = mlp.optimizer, copy.deepcopy(mlp.optimizer)
    mlp.optimizer = optimizers.Adam()
    for optimizer in (former, copied, copy.copy(mlp.optimizer)):
        optimizer.average = 0.5
    assert mlp.averages.size == 0


class Figures:
    """Makes the figures that early stopping watches what they are to be."""

    def __init__(self, *values, act=lambda mlp: None):
        self.values, self.act = values, act

    def on_epoch_end(self, mlp, history):
        epochs = len(history.train_loss)
        history.train_loss[-1] = self.values[epochs - 1]
        if epochs == 2:
            self.act(mlp)


def test_the_best_epoch_is_restored_with_its_counters():
    """Training goes on as if the later epochs had not been."""
    stopped, short = (
        build([3, 4, 2], lr=None, optimizer=optimizers.Adam(), dropout=0.5) for _ in range(2)
    )
    short.dropout_seed = stopped.dropout_seed = 3
    stop = EarlyStopping(2, "train_loss")
    options = {"batch_size": 8, "shuffle": False}
    stopped.fit(X, LABELS, epochs=9, callbacks=[Figures(2, 1, 3, 3, 3), stop], **options)
    short.fit(X, LABELS, epochs=2, **options)
    assert_same(facts(stopped) | {"history": None}, facts(short) | {"history": None})
    assert short.updates == short.dropout_steps == 6


def test_the_best_epoch_of_another_optimizer():
    """Its moments are not those of the present one."""
    mlp, short = network(), network()
    figures = Figures(
        1, 2, 3, act=lambda mlp: setattr(mlp, "optimizer", optimizers.AdamW(average=0.5))
    )
    mlp.fit(X, LABELS, epochs=9, seed=0, callbacks=[figures, EarlyStopping(2, "train_loss")])
    short.fit(X, LABELS, seed=0)
    assert_array_equal(mlp.parameters, short.parameters)
    assert_array_equal(mlp.statistics, short.statistics)
    assert mlp.squares.shape == mlp.averages.shape == mlp.parameters.shape


class Fails(Activation):
    """Of the user's own, and broken."""

    def forward(self, x):
        raise ZeroDivisionError


def test_half_a_forward_leaves_nothing_behind():
    mlp = network(dropout=0.5)
    mlp.activations[1] = Fails()
    before = facts(mlp)
    with pytest.raises(ZeroDivisionError):
        mlp.forward(X)
    assert_same(facts(mlp), before)
    with pytest.raises(RuntimeError, match="call forward before backward"):
        mlp.backward(LABELS)


@pytest.mark.parametrize("name", ["parameters", "linear_layers[0].W", "bn_layers[0].running_var"])
def test_numbers_too_large_for_the_dtype(name):
    """Where warnings are errors, as here, nothing has been assigned when one is raised."""
    mlp = network(dtype=np.float32)
    before = facts(mlp)
    path, _, attribute = name.rpartition(".")
    owner = {"": mlp, "linear_layers[0]": mlp.linear_layers[0]}.get(path, mlp.bn_layers[0])
    with pytest.raises(RuntimeWarning, match="overflow"):
        setattr(owner, attribute, np.full(getattr(owner, attribute).shape, 1e300))
    assert_same(facts(mlp), before)


def test_all_layers_of_a_kind_take_their_places_or_none():
    mlp = build([3, 4, 4, 2], num_bn_layers=2)
    before, present = facts(mlp), list(mlp.bn_layers)
    with pytest.raises(ValueError, match=r"bn_layers\[1\] must have gamma of shape \(1, 4\)"):
        mlp.bn_layers = [BatchNorm(4), BatchNorm(5)]
    assert_same(facts(mlp), before)
    assert list(mlp.bn_layers) == present
