"""Optimizers in a network: ``fit`` and ``step`` alike, beside PyTorch, and what is refused."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy, Tanh, optimizers, set_num_threads
from fastmlp.optimizers import SGD, Adam, AdamW, Lion, Momentum, NAdam
from tests.test_update import OPTIMIZERS

STATE = "parameters", "velocities", "squares", "averages", "statistics"
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
ALL_OPTIONS = {"clip_norm": 0.5, "clip_value": 0.1, "average": 0.9}


def network(optimizer, sizes=(20, 33, 17, 5), norms=1, dtype=np.float64, **arguments):
    rng = np.random.default_rng(1)
    return MLP(
        sizes[0], sizes[-1], sizes[1:-1], [Tanh() for _ in sizes[2:]] + [Identity()],
        lambda i, o: (rng.standard_normal((i, o)) / np.sqrt(i)).astype(dtype),
        lambda o: rng.standard_normal((1, o)) / 9, SoftmaxCrossEntropy(),
        optimizer=optimizer, num_bn_layers=norms, **arguments,
    )  # fmt: skip


def data(rows=100, width=20, classes=5, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, width)).astype(dtype), rng.integers(0, classes, rows)


def train_by_hand(mlp, x, y, batch_size, epochs=1):
    for _ in range(epochs):
        for i in range(0, len(x), batch_size):
            mlp.forward(x[i : i + batch_size])
            mlp.backward(y[i : i + batch_size])
            mlp.step()


def assert_same(a, b):
    assert a.updates == b.updates
    for name in STATE:
        assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@every_optimizer
@pytest.mark.parametrize("options", [{}, ALL_OPTIONS, {"clip_norm": 0.5}], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("forced_threads")
def test_fit_in_order_is_the_hand_written_loop(optimizer, options, threads):
    set_num_threads(threads)
    optimizer = dataclasses.replace(optimizer, **options)
    x, y = data()
    fitted, by_hand = network(optimizer), network(optimizer)
    fitted.fit(x, y, batch_size=30, epochs=3, shuffle=False)
    train_by_hand(by_hand, x, y, 30, 3)
    assert fitted.updates == 12
    assert_same(fitted, by_hand)


@every_optimizer
@pytest.mark.parametrize("options", [{}, ALL_OPTIONS], ids=str)
@pytest.mark.usefixtures("forced_threads")
def test_bits_do_not_depend_on_threads_or_calls(optimizer, options, monkeypatch):
    """Wide enough for two threads, in batches of several chunks; one fit, or a fit per epoch."""
    optimizer = dataclasses.replace(optimizer, **options)
    x, y = data(700, 130)
    results = []
    for threads in (1, 2):
        set_num_threads(threads)
        mlp = network(optimizer, (130, 120, 130, 60))
        mlp.fit(x, y, batch_size=600, epochs=2, shuffle=False)
        results.append(mlp)
    monkeypatch.setattr("fastmlp._pace.SECONDS_PER_CALL", 0)
    mlp = network(optimizer, (130, 120, 130, 60))
    for _ in range(2):
        mlp.fit(x, y, batch_size=600, shuffle=False)
    assert_same(results[0], results[1])
    assert_same(results[0], mlp)


def test_the_first_step_of_momentum_is_that_of_lr_and_momentum():
    x, y = data()
    a = network(Momentum(0.1, 0.9, 0.01), batchnorm_reduction="sum")
    b = network(None, lr=0.1, momentum=0.9, weight_decay=0.01)
    for mlp in (a, b):
        mlp.fit(x, y, batch_size=30, seed=0)
    assert_same(a, b)
    assert (b.lr, b.momentum, b.weight_decay) == (0.1, 0.9, 0.01)


def torch_twin(torch, mlp, optimizer):
    """The same network in PyTorch, with the optimizer of the same name and arguments."""
    layers = []
    for i, linear in enumerate(mlp.linear_layers):
        layers.append(torch.nn.Linear(linear.in_feature, linear.out_feature, dtype=torch.float64))
        with torch.no_grad():
            layers[-1].weight[:] = torch.tensor(linear.W.T.copy())
            layers[-1].bias[:] = torch.tensor(linear.b[0].copy())
        if i + 1 < mlp.nlayers:
            layers.append(torch.nn.Tanh())
    model = torch.nn.Sequential(*layers)
    common = {field.name for field in dataclasses.fields(optimizers.Optimizer)}
    own = {*common, "weight_decay", "ntk"}
    fields = [f.name for f in dataclasses.fields(optimizer) if f.name not in own]
    arguments = {name: getattr(optimizer, name) for name in fields}
    weights = [layer.weight for layer in model if hasattr(layer, "weight")]
    biases = [layer.bias for layer in model if hasattr(layer, "bias")]
    groups = [
        {"params": weights, "weight_decay": optimizer.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    return model, getattr(torch.optim, type(optimizer).__name__)(groups, **arguments)


@every_optimizer
@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.3}, {"clip_value": 0.01}], ids=str)
def test_fifty_steps_agree_with_pytorch(optimizer, clipping, request):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra compare")
    if not hasattr(torch.optim, type(optimizer).__name__):
        pytest.skip(f"PyTorch has no {type(optimizer).__name__}")
    # PyTorch keeps NAdam's product of momenta in the default dtype: float32 leaves errors of 2e-10.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    request.addfinalizer(lambda: torch.set_default_dtype(before))
    optimizer = dataclasses.replace(optimizer, **clipping)
    x, y = data(1000)
    fitted, by_hand = network(optimizer, norms=0), network(optimizer, norms=0)
    model, rule = torch_twin(torch, fitted, optimizer)
    for i in range(0, 1000, 20):
        rule.zero_grad()
        logits = model(torch.tensor(x[i : i + 20]))
        torch.nn.functional.cross_entropy(logits, torch.tensor(y[i : i + 20])).backward()
        if "clip_norm" in clipping:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clipping["clip_norm"])
        if "clip_value" in clipping:
            torch.nn.utils.clip_grad_value_(model.parameters(), clipping["clip_value"])
        rule.step()
    fitted.fit(x, y, batch_size=20, shuffle=False)
    train_by_hand(by_hand, x, y, 20)
    for mlp in (fitted, by_hand):
        linear = [layer for layer in model if hasattr(layer, "weight")]
        for own, other in zip(mlp.linear_layers, linear, strict=True):
            assert_allclose(own.W, other.weight.detach().numpy().T, rtol=0, atol=1e-10)
            assert_allclose(own.b[0], other.bias.detach().numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("every", [2, 3, 7, 50])
@pytest.mark.parametrize("short_call", [False, True])
def test_accumulated_batches_are_one_larger_batch(every, short_call, monkeypatch):
    """Up to the order of summation; the last few of an epoch have an update of their own."""
    if short_call:
        monkeypatch.setattr("fastmlp._pace.SECONDS_PER_CALL", 0)
    x, y = data(103)
    small, large = network(Adam(0.01), norms=0), network(Adam(0.01), norms=0)
    small.fit(x, y, batch_size=10, accumulate=every, epochs=3, shuffle=False)
    large.fit(x, y, batch_size=10 * every, epochs=3, shuffle=False)
    assert small.updates == large.updates == 3 * -(-11 // every)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-12)


def test_accumulated_gradients_of_batches_that_differ_in_chunks():
    x, y = data(1500)
    small, large = network(SGD(0.1), norms=0), network(SGD(0.1), norms=0)
    small.fit(x, y, batch_size=600, accumulate=3, shuffle=False)
    large.fit(x, y, batch_size=1500, shuffle=False)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-13)


def test_a_schedule_is_that_of_the_updates():
    """Batches that are added up have the rate of the last of them."""
    x, y = data(80)
    rates = np.linspace(0.1, 0.8, 8)
    small, large = network(SGD(0.5), norms=0), network(SGD(0.5), norms=0)
    small.fit(x, y, batch_size=10, accumulate=4, shuffle=False, lr_schedule=rates)
    large.fit(x, y, batch_size=40, shuffle=False, lr_schedule=rates[[3, 7]])
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-13)


def test_updates_are_counted_where_training_ends_early():
    x, y = data()
    mlp = network(Adam())
    mlp.fit(x, y, batch_size=10, max_steps=7, shuffle=False)
    assert mlp.updates == 7
    x[45] = np.inf
    with pytest.warns(RuntimeWarning, match="step 5"):
        mlp.fit(x, y, batch_size=10, shuffle=False, check_finite=False)
    assert mlp.updates == 11


class Exchange:
    """Changes the optimizer after an epoch."""

    def __init__(self, change):
        self.change = change

    def on_epoch_end(self, mlp, history):
        if len(history.train_loss) == 1:
            self.change(mlp)


CHANGES = {
    "rate": lambda mlp: setattr(mlp, "lr", 0.003),
    "betas": lambda mlp: setattr(mlp.optimizer, "betas", (0.5, 0.9)),
    "clipping": lambda mlp: setattr(mlp.optimizer, "clip_norm", 0.01),
    "another": lambda mlp: setattr(mlp, "optimizer", Lion(0.01)),
    "averages": lambda mlp: setattr(mlp, "optimizer", Adam(0.01, average=0.5)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_callback_may_change_the_optimizer(change):
    x, y = data()
    fitted, by_hand = network(Adam(0.01)), network(Adam(0.01))
    fitted.fit(x, y, batch_size=30, epochs=2, shuffle=False, callbacks=[Exchange(change)])
    train_by_hand(by_hand, x, y, 30)
    change(by_hand)
    train_by_hand(by_hand, x, y, 30)
    assert_same(fitted, by_hand)


def test_the_network_has_a_copy_of_its_optimizer():
    given = Adam(0.01)
    a, b = network(given), network(given)
    a.lr = 0.5
    assert (given.lr, b.lr, a.optimizer.lr) == (0.01, 0.01, 0.5)


def test_another_rule_starts_anew_and_the_same_goes_on():
    x, y = data()
    mlp = network(Adam(0.01))
    mlp.fit(x, y)
    kept = mlp.squares.copy()
    mlp.optimizer = Adam(0.1, (0.5, 0.5))
    assert_array_equal(mlp.squares, kept)
    assert mlp.updates == 1
    mlp.optimizer = optimizers.Adagrad(initial_accumulator_value=0.5)
    assert mlp.squares.size == 0
    assert mlp.updates == 0
    assert_array_equal(mlp.velocities, 0.5)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize("optimizer", [NAdam(), AdamW(average=0.9), Momentum(0.1, 0.5)], ids=repr)
def test_a_copy_goes_on_to_the_same_bits(copied, optimizer):
    x, y = data()
    mlp = network(optimizer)
    mlp.fit(x, y, batch_size=30)
    twin = copied(mlp)
    for each in (mlp, twin):
        each.fit(x, y, batch_size=30, seed=1)
    assert_same(mlp, twin)
    twin.squares = np.ones_like(twin.squares)
    assert not (mlp.squares == 1).any()


@every_optimizer
def test_a_saved_network_goes_on_to_the_same_bits(optimizer, tmp_path):
    pytest.importorskip("safetensors", reason="saving needs the extra io")
    x, y = data()
    mlp = network(dataclasses.replace(optimizer, average=0.9, clip_norm=1.0))
    mlp.fit(x, y, batch_size=30)
    mlp.save(tmp_path / "net")
    loaded = MLP.load(tmp_path / "net")
    assert loaded.optimizer == mlp.optimizer
    assert_same(loaded, mlp)
    for each in (mlp, loaded):
        each.fit(x, y, batch_size=30, seed=1)
    assert_same(loaded, mlp)


def test_averages_start_from_the_parameters_and_can_take_their_place():
    x, y = data()
    mlp = network(SGD(0.1, average=0.5))
    assert_array_equal(mlp.averages, mlp.parameters)
    before = mlp.parameters.copy()
    mlp.fit(x, y, batch_size=100)
    assert_allclose(mlp.averages, (before + mlp.parameters) / 2, rtol=1e-15)
    mlp.parameters = mlp.averages
    assert_array_equal(mlp.linear_layers[0].W.reshape(-1), mlp.averages[: 20 * 33])


def test_decay_acts_on_weights_alone_unless_asked():
    for decay_all in (False, True):
        mlp = network(SGD(0.0, weight_decay=0.5, decay_all=decay_all))
        mlp.optimizer = AdamW(0.1, weight_decay=0.5, decay_all=decay_all)
        before = mlp.linear_layers[0].b.copy(), mlp.bn_layers[0].gamma.copy()
        mlp.zero_grads()
        mlp.step()
        for old, new in zip(before, (mlp.linear_layers[0].b, mlp.bn_layers[0].gamma), strict=True):
            assert_allclose(new, 0.95 * old if decay_all else old, rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Adam(lr=-1), ValueError, "lr must be at least 0, got -1"),
        (lambda: Adam(lr=np.nan), ValueError, "lr must be finite, got nan"),
        (lambda: Adam(lr="fast"), TypeError, "lr must be a number, got 'fast'"),
        (lambda: Adam(betas=(0.9, 1.0)), ValueError, r"betas\[1\] must be at least 0 and below 1"),
        (lambda: Adam(betas=0.9), ValueError, "betas must be a pair of numbers, got 0.9"),
        (lambda: Adam(eps=0.0), ValueError, "eps must be at least 1.17549e-38, got 0.0"),
        (lambda: AdamW(weight_decay=-0.1), ValueError, "weight_decay must be at least 0, got -0.1"),
        (lambda: SGD(momentum=1.0), ValueError, "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: SGD(nesterov=True), ValueError, "nesterov needs a momentum above 0"),
        (lambda: SGD(clip_norm=0), ValueError, "clip_norm must be at least 1.17549e-38, got 0"),
        (lambda: SGD(average=1.0), ValueError, "average must be at least 0 and below 1, got 1.0"),
        (optimizers.Optimizer, TypeError, "abstract class Optimizer"),
        (lambda: setattr(Adam(), "momentum", 0.9), AttributeError, "Adam has no momentum"),
        (lambda: network(None), TypeError, "MLP needs lr, the learning rate, or an optimizer"),
        (lambda: network(Adam, norms=0), TypeError, "optimizer must be an object of class Optimiz"),
        (lambda: network("adam"), TypeError, "optimizer must be an object of class Optimizer"),
        (lambda: network(Adam(), lr=0.1), ValueError, "lr must be given to the optimizer where"),
        (lambda: network(Adam()).momentum, AttributeError, "'Adam' object has no attribute 'mom"),
        (lambda: setattr(network(Adam()), "optimizer", None), TypeError, "optimizer must be an ob"),
    ],
)  # fmt: skip
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_accumulate_must_be_a_count():
    x, y = data()
    mlp = network(Adam())
    before = mlp.parameters.copy()
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        mlp.fit(x, y, accumulate=0)
    assert_array_equal(mlp.parameters, before)


def test_relu_networks_in_float32_learn_with_every_rule():
    """Well under the loss of a guess, in a hundred updates."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200, 20)).astype(np.float32)
    y = (x[:, 0] > 0) + 2 * (x[:, 1] > 0)
    for name, optimizer in OPTIMIZERS.items():
        changes = {"lr": 0.1, "lr_decay": 0.0} if name == "Adagrad" else {}
        optimizer = dataclasses.replace(optimizer, weight_decay=0.0, **changes)
        mlp = network(optimizer, (20, 32, 4), norms=0, dtype=np.float32)
        mlp.activations[0] = ReLU()
        loss = mlp.fit(x, y, batch_size=50, epochs=25, seed=0).train_loss[-1]
        assert loss < 0.7 * np.log(4), name
