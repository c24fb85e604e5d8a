"""Networks that are trained by hand in the engine's panels: as layer by layer, to the bit."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import _layer_path, optimizers
from fastmlp._by_hand import panels_for
from fastmlp.kernels._geometry import norm_terms
from fastmlp.layers import GELU, BinaryCrossEntropy, Criterion, MeanSquaredError, Sigmoid, Tanh
from tests.networks import assert_same_state, batch, build, state

OPTIMIZERS = {
    "momentum": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"lr": None, "optimizer": optimizers.Adam(lr=0.01)},
    "clipped": {"lr": None, "optimizer": optimizers.Momentum(lr=0.05, clip_norm=0.1)},
    "averaged": {"lr": None, "optimizer": optimizers.AdamW(lr=0.01, average=0.9)},
}
SHAPES = [[19, 33, 7, 5], [1, 2], [49, 48, 17], [5, 20], [16, 16, 47]]


def by_layers(function):
    """Call a function while no network has panels."""
    _layer_path.panels_for = lambda mlp, rows: None
    try:
        return function()
    finally:
        _layer_path.panels_for = panels_for


def kept(mlp):
    """All that a step leaves: parameters, states, gradients, what layers and criterion keep."""
    arrays = state(mlp) | {
        name: getattr(mlp, name).copy()
        for name in ("gradients", "velocities", "squares", "averages")
    }
    for i, (linear, activation) in enumerate(zip(mlp.linear_layers, mlp.activations, strict=True)):
        arrays |= {f"x{i}": linear.x, f"state{i}": activation.state}
    arrays |= {name: getattr(mlp.criterion, name) for name in ("logits", "labels", "loss")}
    return arrays | {"output": mlp.output}


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
def test_steps_are_those_of_the_layers(dtype, name, sizes):
    """Batches of several sizes; losses and outputs of every step, and all that is left."""

    def trained():
        mlp, told = build(sizes, dtype=dtype, **copy.deepcopy(OPTIMIZERS[name])), []
        for rows in (8, 8, 5, 1, 33, 8):
            x, labels, _ = batch(rows, sizes[0], sizes[-1], dtype=dtype, seed=rows)
            mlp.zero_grads()
            told.append(mlp.forward(x).copy())
            mlp.backward(labels)
            told.append(mlp.total_loss(labels))
            mlp.step()
        return mlp, told

    (mlp, told), (expected, expected_told) = trained(), by_layers(trained)
    assert mlp.buffers.panels is not None
    assert expected.buffers.panels is None
    for one, other in zip(told, expected_told, strict=True):
        assert_array_equal(one, other)
    assert_same_state(kept(mlp), kept(expected))


class Steps:
    """A network, and what one may do with it between and beside its steps; all of it by name."""

    def __init__(self, dtype):
        self.mlp = build([6, 17, 5, 3], [Tanh, GELU, Sigmoid], dtype=dtype, momentum=0.9)
        self.dtype, self.labels, self.held = dtype, None, []

    def forward(self, rows):
        x, self.labels, _ = batch(rows, 6, 3, dtype=self.dtype, seed=rows)
        return self.mlp.forward(x)

    def forward_bytes(self, rows):
        _, self.labels, _ = batch(rows, 6, 3, seed=rows)
        return self.mlp.forward(np.arange(rows * 6, dtype=np.uint8).reshape(rows, 6))

    def forward_many(self, rows):
        """More rows than panels take."""
        x, self.labels, _ = batch(600 + rows, 6, 3, dtype=self.dtype, seed=rows)
        return self.mlp.forward(x)

    def backward(self, rows):
        if self.mlp.output is not None:
            self.mlp.backward(self.labels)

    def backward_weighted(self, rows):
        if self.mlp.output is not None:
            self.mlp.backward(self.labels, np.linspace(0.5, rows, len(self.labels)))

    def step(self, rows):
        self.mlp.step()

    def zero_grads(self, rows):
        self.mlp.zero_grads()

    def read(self, rows):
        return np.append(self.mlp.linear_layers[1].W, self.mlp.linear_layers[0].db)

    def write(self, rows):
        self.mlp.linear_layers[0].W = self.mlp.linear_layers[0].W * 0.5

    def clip(self, rows):
        np.clip(self.mlp.gradients, -0.01, 0.01, out=self.mlp.gradients)

    def hold(self, rows):
        """A view that is kept, through which weights change unasked."""
        self.held.append(self.mlp.linear_layers[2].W)
        self.held[-1][0] += 0.25

    def change_what_is_held(self, rows):
        for view in self.held:
            view[:] *= 0.75

    def let_go(self, rows):
        self.held.clear()

    def predict(self, rows):
        return self.mlp.predict_proba(batch(rows, 6, 3, dtype=self.dtype)[0])

    def fit(self, rows):
        x, labels, _ = batch(rows, 6, 3, dtype=self.dtype)
        self.mlp.fit(x, labels, batch_size=4, seed=rows)

    def pickle(self, rows):
        self.held.clear()
        self.mlp = pickle.loads(pickle.dumps(self.mlp))

    def copy(self, rows):
        self.held.clear()
        self.mlp = copy.deepcopy(self.mlp)

    def spoil_output(self, rows):
        if self.mlp.output is not None:
            self.mlp.output[:] *= 0.5

    def spoil_labels(self, rows):
        """They have been read."""
        if self.labels is not None:
            self.labels[:] = self.labels[::-1].copy()

    def other_rate(self, rows):
        self.mlp.lr = 1 / (8 + rows)

    def other_numbers(self, rows):
        self.mlp.optimizer.weight_decay = 1 / (8 + rows)
        self.mlp.optimizer.rate_factors = {"biases": 1 / rows}

    def begin_again(self, rows):
        self.mlp.updates = rows % 2

    def other_activation(self, rows):
        self.mlp.activations[0] = Tanh() if rows % 2 else Sigmoid()

    def other_optimizer(self, rows):
        self.mlp.optimizer = optimizers.Adam(lr=0.01) if rows % 2 else optimizers.Momentum(lr=0.1)

    def threads(self, rows):
        fastmlp.set_num_threads(1 + rows % 3)

    def own_criterion(self, rows):
        self.mlp.criterion = HalfSquares() if rows % 2 else fastmlp.SoftmaxCrossEntropy()

    def by_the_layers(self, rows):
        """Backward by hand, from what the layers keep."""
        if self.mlp.output is not None:
            delta = np.ones_like(self.mlp.output)
            for activation, linear in zip(
                reversed(self.mlp.activations), reversed(self.mlp.linear_layers), strict=True
            ):
                delta = linear.backward(activation.backward(delta))


def answer(steps, name, rows):
    """What an action returns, or that it is refused: with such a criterion, before a forward."""
    try:
        return copy.deepcopy(getattr(steps, name)(rows))
    except (RuntimeError, TypeError) as error:
        return str(error)


class HalfSquares(Criterion):
    """A user's own, which the engine does not know."""

    def forward(self, x, y):
        self.logits, self.labels = x, y
        self.loss = ((x - y) ** 2).sum(axis=1) / 2
        return self.loss

    def derivative(self):
        return self.logits - self.labels


NAMES = [name for name in vars(Steps) if not name.startswith("_")]
USUAL = ["forward", "backward", "step"]


# The panels' gradients are 0 until the layers have others, for all steps from then on.
ZEROED_BEFORE_LAYERS = "forward", "forward_many", "zero_grads", "backward", "step", "step"


@st.composite
def actions_of_steps(draw):
    """Up to three steps, and whatever else before, between or after their parts."""
    rows = st.integers(1, 12)
    actions = [(name, draw(rows)) for name in USUAL * draw(st.integers(0, 3))]
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=6)):
        actions.insert(draw(st.integers(0, len(actions))), (name, draw(rows)))
    return actions


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=100, deadline=None)
@given(actions_of_steps())
@example([("forward", 1), ("other_activation", 1), ("backward", 1)])
@example([(name, 1) for name in ZEROED_BEFORE_LAYERS])
def test_whatever_is_done_between_the_steps(dtype, actions):
    """Every answer, and all that is left in the end, as of the layers."""

    def done():
        fastmlp.set_num_threads(2)
        steps = Steps(dtype)
        answers = [answer(steps, name, rows) for name, rows in actions]
        return answers, kept(steps.mlp)

    (answers, end), (expected, expected_end) = done(), by_layers(done)
    for (name, _), one, other in zip(actions, answers, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_array_equal(one, other, err_msg=name)
    for name, value in expected_end.items():
        assert_array_equal(end[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("criterion", "targets"),
    [
        (MeanSquaredError(), lambda rows: np.linspace(-1, 1, 3 * rows).reshape(rows, 3)),
        (BinaryCrossEntropy(), lambda rows: np.arange(3 * rows).reshape(rows, 3) % 2),
        (
            fastmlp.SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=[1, 2, 0.5]),
            lambda rows: np.arange(rows) % 3,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_criteria(criterion, targets):
    def trained():
        mlp = build([4, 9, 3])
        mlp.criterion = copy.deepcopy(criterion)
        for rows in (7, 12):
            mlp.forward(batch(rows, 4, 3)[0])
            mlp.backward(targets(rows))
            mlp.step()
        return kept(mlp)

    assert_same_state(trained(), by_layers(trained))


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.5}, {"num_bn_layers": 1}, {"num_ln_layers": 1}, {"scale_inputs": True}],
    ids=str,
)
def test_extras_are_left_to_the_layers(options):
    mlp = build([5, 4, 3], **options)
    mlp.forward(batch(6, 5, 3)[0])
    assert mlp.buffers.panels is None


def test_what_a_layer_kept_is_gone_with_the_next_pass():
    """An activation that has left the network has nothing to take a derivative from."""
    mlp = build([5, 4, 3], [Tanh, Sigmoid])
    x, _, _ = batch(6, 5, 3)
    mlp.forward(x)
    before, mlp.activations[0] = mlp.activations[0], Tanh()
    assert before.derivative().shape == (6, 4)
    mlp.forward(x)
    before, mlp.activations[0] = mlp.activations[0], Tanh()
    mlp.forward(x)
    with pytest.raises(RuntimeError, match="call forward before the derivative"):
        before.derivative()


def test_other_threads_see_the_last_step():
    mlp, seen = build([5, 4, 3]), []
    x, labels, _ = batch(6, 5, 3)
    for _ in range(3):
        mlp.forward(x)
        mlp.backward(labels)
        mlp.step()
    thread = threading.Thread(target=lambda: seen.append(mlp.predict_proba(x)))
    thread.start()
    thread.join(timeout=60)
    assert_array_equal(seen[0], mlp.predict_proba(x))
    assert_array_equal(mlp.forward(x), mlp._outputs(x))


def test_a_loop_reads_the_weights_once():
    """Panels are packed for the first step, and not unpacked while nobody looks."""
    mlp = build([5, 4, 3])
    x, labels, _ = batch(6, 5, 3)
    mlp.forward(x)
    trainer, calls = mlp.buffers.panels._trainer, []
    for name in ("pack", "unpack", "unpack_gradients", "pack_gradients"):
        usual = getattr(trainer, name)
        setattr(trainer, name, lambda *a, name=name, usual=usual: calls.append(name) or usual(*a))
    for _ in range(3):
        mlp.zero_grads()
        mlp.backward(labels)
        mlp.total_loss(labels)
        mlp.error(labels)
        mlp.step()
        mlp.forward(x)
    assert calls == []
    assert len(mlp.parameters) > 0
    assert calls == ["unpack", "unpack_gradients"]


def test_clipping_has_room_for_its_terms():
    """Also where it is switched on between two steps."""
    mlp = build([5, 4, 3], momentum=0.9)
    x, labels, _ = batch(6, 5, 3)
    mlp.forward(x)
    assert mlp.buffers.panels._trainer.packed.terms.size == 0
    mlp.optimizer.clip_norm = 0.1
    mlp.forward(x)
    mlp.backward(labels)
    mlp.step()
    assert mlp.buffers.panels._trainer.packed.terms.size >= norm_terms(mlp.layout.table)


def test_scales_of_gradients_follow_them():
    """Of rows with weights the gradients are scaled otherwise than those before them."""

    def trained():
        mlp = build([5, 4, 3])
        x, labels, _ = batch(6, 5, 3)
        mlp.forward(x)
        mlp.backward(labels)
        held = mlp.linear_layers[0].W
        mlp.backward(labels, np.full(6, 3.0))
        first = mlp.gradients.copy()
        held *= 0.5
        mlp.step()
        return first, kept(mlp)

    (first, end), (expected, expected_end) = trained(), by_layers(trained)
    assert_array_equal(first, expected)
    assert_same_state(end, expected_end)
