"""The compiled epoch: one compilation, the arithmetic of the layers and of NumPy, interrupts."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, Identity, ReLU, Sigmoid, Tanh, engine, threads
from fastmlp.kernels import _operands
from fastmlp.kernels.epoch import train_steps
from tests.bfloat16 import NAN_PAIR
from tests.networks import assert_close, assert_descent, assert_same_state, batch, build, state
from tests.processes import output_of
from tests.reference import ReferenceMLP, train_epoch

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
NORMALISED = {"num_bn_layers": 1, "momentum": 0.9}


# One compilation


def test_one_compilation_serves_every_network():
    """Ten architectures, x and labels of every kind, options of every type."""
    x, labels, y = batch(11, 7, 3, dtype=np.float32)
    pixels = np.abs(100 * x).astype(np.uint8)

    def fit(sizes, inputs, given, **options):
        activations = [*[ReLU, Sigmoid, Tanh, ReLU][: len(sizes) - 2], Identity]
        mlp = build(sizes, activations, dtype=np.float32, **options)
        mlp.fit(inputs, given, batch_size=4)

    # The first takes an epoch that will do for all of them.
    fit([7, 5, 3], x, labels, num_bn_layers=1)
    compiled = set(train_steps.signatures)
    fit([7, 3], x, labels)
    fit([7, 1, 3], pixels, labels)
    fit([7, 2, 3], x.astype(np.float64), labels)
    fit([7, 17, 3], x, y)
    fit([7, 5, 4, 3], x, y.astype(np.float64), num_bn_layers=1)
    fit([7, 5, 4, 6, 3], x[::-1], labels.astype(np.uint8)[::-1], num_bn_layers=3)
    fit([7, 97, 3], np.asfortranarray(x), labels.tolist(), momentum=0, weight_decay=0)
    fit([7, 64, 3], x, np.repeat(labels, 2)[::2], momentum=np.float32(0.9), lr=np.float32(0.1))
    read_only = labels.copy()
    read_only.flags.writeable = False
    fit([7, 8, 3], x, read_only, lr=1, weight_decay=np.float64(0.1))
    mlp = build([7, 9, 3], dtype=np.float32, batchnorm_reduction="mean", num_bn_layers=2)
    mlp.fit(x, labels, epochs=2, batch_size=100, lr_schedule=lambda progress: 0.1)
    mlp.fit(x, labels, epochs=2, batch_size=11, lr_schedule=np.full(4, 0.1, np.float32)[::2])
    mlp.fit(x, labels, batch_size=11, lr_schedule=np.broadcast_to(np.float32(0.1), 1))
    assert set(train_steps.signatures) == compiled


# The same arithmetic as the layers and as NumPy


@pytest.mark.parametrize("samples", [257, 600, 1000])
@pytest.mark.parametrize("num_bn_layers", [0, 2])
@both_dtypes
def test_a_batch_of_several_chunks(samples, num_bn_layers, dtype):
    """Above 256 rows a batch is cut; the last batch, of 5 rows, lies in the first chunk alone."""
    sizes, options = [17, 48, 33, 5], {"momentum": 0.9, "num_bn_layers": num_bn_layers, "lr": 0.02}
    activations = [Tanh, ReLU, Identity]
    fitted, looped = (build(sizes, activations, dtype=dtype, **options) for _ in range(2))
    expected = build(sizes, activations, ReferenceMLP, dtype=dtype, cast=np.float64, **options)
    x, labels, y = batch(samples + 5, 17, 5, dtype=dtype)
    fitted.fit(x, labels, epochs=2, batch_size=samples, shuffle=False)
    for _ in range(2):
        train_epoch(looped, x, y, samples)
        train_epoch(expected, x.astype(np.float64), y, samples)
    assert_same_state(state(fitted), state(looped))
    assert_same_state(state(fitted), state(expected), 1e-11 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.05},
        {"weight_decay": 0.05, "momentum": 0.9, "num_bn_layers": 2},
        {"num_bn_layers": 1, "batchnorm_reduction": "mean"},
        {"num_bn_layers": 3, "batchnorm_reduction": "mean", "momentum": 0.9},
        {"num_bn_layers": 2, "momentum": 0.5},
        {"lr": 0.0, "num_bn_layers": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [8, 300])
def test_twenty_steps_with_options_against_numpy(options, batch_size):
    """In both paths; decay is for weights only, batch norm learns without momentum."""
    sizes, activations = [7, 17, 16, 3], [Sigmoid, Tanh, Identity]
    fitted, looped, expected = (
        build(sizes, activations, cls, **options) for cls in (MLP, MLP, ReferenceMLP)
    )
    steps, samples = 20, 5 * batch_size
    x, labels, y = batch(samples, 7, 3)
    fitted.fit(x, labels, epochs=steps // 5, batch_size=batch_size, shuffle=False)
    for _ in range(steps // 5):
        train_epoch(looped, x, y, batch_size)
        train_epoch(expected, x, y, batch_size)
    assert_same_state(state(fitted), state(looped))
    assert_same_state(state(fitted), state(expected), 1e-10)


def test_one_step_follows_the_gradient_of_the_loss():
    """Without batch norm the mean loss is what evaluate gives: its finite differences say where."""
    mlp = build([5, 4, 6, 3], [Tanh, Sigmoid, Identity], lr=1.0)
    x, labels, _ = batch(9, 5, 3)
    assert_descent(mlp, x, labels)


@pytest.mark.parametrize("kind", ["array", "list", "function"])
def test_learning_rate_per_step(kind):
    """5 steps an epoch, the last short, for two epochs; a function gets the share done before."""
    rates = np.linspace(0.01, 0.1, 10)
    schedule = {
        "array": rates, "list": rates.tolist(), "function": lambda progress: 0.01 + 0.1 * progress,
    }[kind]  # fmt: skip
    mlp, expected = (build([5, 9, 3], cls=cls, momentum=0.9) for cls in (MLP, ReferenceMLP))
    x, labels, y = batch(33, 5, 3)
    mlp.fit(x, labels, epochs=2, batch_size=8, shuffle=False, lr_schedule=schedule)
    for step in range(10):
        expected.lr = schedule(step / 10) if kind == "function" else rates[step]
        here = slice(step % 5 * 8, step % 5 * 8 + 8)
        train_epoch(expected, x[here], y[here], 8)
    assert_same_state(state(mlp), state(expected), 1e-12)


@pytest.mark.parametrize(
    "schedule", [np.full(9, 0.1), np.full((10, 1), 0.1), [np.nan] * 10, lambda p: np.inf]
)
def test_a_schedule_that_does_not_fit_changes_nothing(schedule):
    mlp = build([5, 3])
    before = state(mlp)
    x, labels, _ = batch(33, 5, 3)
    with pytest.raises(ValueError, match="lr_schedule must"):
        mlp.fit(x, labels, epochs=2, batch_size=8, lr_schedule=schedule)
    assert_same_state(state(mlp), before)


# What buffers hold beyond the numbers of the network


def _poisoned(run):
    """``threads.run`` with NaN in all padding of packed weights, and in the whole workspace."""

    def poison(function, wanted, arguments):
        if function is engine.train_steps:
            packed = arguments[0].value.packed
            blocks = packed.inputs, packed.activations, packed.normals, packed.deltas
            for buffer in (
                packed.labels, packed.row_weights, packed.means, packed.variances,
                packed.gradients, packed.scratch, packed.gathered, packed.row_losses,
                packed.row_errors,
                *itertools.chain.from_iterable(forms[:3] for forms in blocks),
            ):  # fmt: skip
                buffer[:] = np.nan if buffer.dtype.kind == "f" else NAN_PAIR
        result = run(function, wanted, arguments)
        if function is engine.move_buffer and not arguments[-1]:
            table, packed, flat, back = arguments
            places = np.zeros_like(packed)
            run(function, 1, (table, places, np.ones_like(flat), back))
            assert (places == 0).any()
            packed[places == 0] = np.nan
        return result

    return poison


@pytest.mark.parametrize("batch_size", [8, 300])
@pytest.mark.parametrize("num_bn_layers", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
def test_padding_holds_anything(batch_size, num_bn_layers, dtype, monkeypatch):
    """Rows and columns of zeros around weights are for speed alone: NaN there changes no bit.

    They come as NaN into the padding of activations and of gradients. Rows beyond a short batch,
    and what is left from an earlier step, count for nothing either.
    """
    sizes, activations = [19, 49, 33, 5], [Sigmoid, ReLU, Identity]
    x, labels, _ = batch(2 * batch_size + 5, 19, 5, dtype=dtype)
    monkeypatch.setattr("fastmlp._pace.SECONDS_PER_CALL", 0)

    def results():
        mlp = build(sizes, activations, dtype=dtype, num_bn_layers=num_bn_layers, momentum=0.9)
        history = mlp.fit(x, labels, epochs=2, batch_size=batch_size, seed=0)
        figures = {"loss": np.array(history.step_loss), "error": np.array(history.train_error)}
        return state(mlp) | figures | {"probabilities": mlp.predict_proba(x)}

    expected = results()
    assert all(np.isfinite(value).all() for value in expected.values())
    monkeypatch.setattr(threads, "run", _poisoned(threads.run))

    def arrays(sizes, dtype, allocate):
        return tuple(np.full(size, np.nan, dtype) for size in sizes)

    monkeypatch.setattr(_operands, "aligned_arrays", arrays)
    assert_same_state(results(), expected)


# What is not a number must be seen


@both_dtypes
def test_a_diverging_loss_is_seen(dtype):
    """It ends the training as the hand-written loop is before that step."""
    mlp, looped = (build([5, 17, 3], dtype=dtype, lr=1e30, momentum=0.9) for _ in range(2))
    x, labels, y = batch(33, 5, 3, dtype=dtype)
    with pytest.warns(RuntimeWarning, match=r"the loss is \w+ in epoch \d, .* lr is 1e\+30"):
        history = mlp.fit(x, labels, epochs=40, batch_size=8, shuffle=False)
    finite = np.isfinite(history.step_loss)
    assert_array_equal(finite, [True] * (len(finite) - 1) + [False])
    assert not np.isfinite(history.train_loss[-1])
    epochs, steps = divmod(len(finite) - 1, 5)
    for rows in [33] * epochs + [8 * steps]:
        wrong = train_epoch(looped, x[:rows], y[:rows], 8)[1]
    assert_same_state(state(mlp), state(looped))
    # What is counted as wrong follows np.argmax also where the outputs are lost.
    last = slice(8 * steps, min(33, 8 * steps + 8))
    looped.forward(x[last])
    assert history.train_error[-1] == (wrong + looped.error(y[last])) / last.stop


@pytest.mark.parametrize("x_dtype", [np.float32, np.float64])
def test_a_sample_that_is_not_a_number_is_seen(x_dtype):
    mlp = build([5, 17, 3], dtype=np.float32)
    x, labels, _ = batch(33, 5, 3, dtype=x_dtype)
    x[20, 4] = np.nan
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 1, step 3"):
        history = mlp.fit(x, labels, batch_size=8, shuffle=False, check_finite=False)
    assert_array_equal(np.isnan(history.step_loss), [False, False, True])
    assert np.isfinite(mlp.parameters).all()


@pytest.mark.parametrize("classes", [3, 17, 97])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
def test_an_output_that_is_not_a_number_is_seen(classes, dtype):
    """In one class, or in two: fit and evaluate see the loss, and take the first as np.argmax."""
    x, _, _ = batch(9, 5, classes, dtype=dtype)
    for lost in ([0], [classes // 2], [classes - 1], [classes // 3, classes - 1]):
        labels = np.repeat([lost[0], lost[0] - 1], [7, 2]) % classes
        mlp = build([5, classes], dtype=dtype)
        mlp.linear_layers[0].b[0, lost] = np.nan
        assert np.isnan(mlp.predict_proba(x)).all()
        assert_array_equal(mlp.predict(x), lost[0])
        loss, error = mlp.evaluate(x, labels)
        with pytest.warns(RuntimeWarning, match="the loss is nan"):
            history = mlp.fit(x, labels, batch_size=9)
        assert np.isnan([loss, *history.train_loss, *history.step_loss]).all()
        assert history.train_error == [error] == [2 / 9]


def test_the_first_of_equal_outputs_counts():
    """As np.argmax: with all weights 0 every sample is taken for class 0."""
    mlp = build([5, 3], lr=0.0)
    mlp.linear_layers[0].W, mlp.linear_layers[0].b = np.zeros((5, 3)), np.zeros((1, 3))
    x, labels = batch(33, 5, 3)[0], np.repeat([0, 1, 2], [5, 9, 19])
    history = mlp.fit(x, labels, batch_size=8)
    assert history.train_error == [28 / 33]
    assert_close(history.train_loss, [np.log(3)], 1e-14)


# Interrupts


class Interrupt:
    """A callback that presses Ctrl-C when training reports a step of at least ``step``."""

    def __init__(self, step):
        self.step = step

    def on_progress(self, progress):
        self.seen = progress.epoch * progress.steps + progress.step
        if self.seen >= self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 3, 9, 12])
def test_an_interrupt_leaves_the_finished_steps_and_training_goes_on(step):
    """Steps of 5 an epoch. The rest, trained afterwards, ends where an undisturbed run ends."""
    x, labels, _ = batch(40, 5, 3)
    interrupted, stepped, whole = (build([5, 17, 3], **NORMALISED) for _ in range(3))
    interrupt = Interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(x, labels, epochs=4, batch_size=8, shuffle=False, callbacks=[interrupt])
    assert step <= interrupt.seen < 20
    parts = [slice(start % 40, start % 40 + 8) for start in range(0, 160, 8)]
    for part in parts[: interrupt.seen]:
        stepped.fit(x[part], labels[part], batch_size=8, shuffle=False)
    assert_same_state(state(interrupted), state(stepped))
    for part in parts[interrupt.seen :]:
        interrupted.fit(x[part], labels[part], batch_size=8, shuffle=False)
    whole.fit(x, labels, epochs=4, batch_size=8, shuffle=False)
    assert_same_state(state(interrupted), state(whole))


# A signal comes at any time, from outside: in a process of its own, which may not survive it. Each
# line of output is the time from the signal to fit's end. Steps are counted by repeating them.
SIGNALS = """
import os, random, signal, sys, threading, time
import itertools

import numpy as np
import fastmlp
from tests.networks import batch, build, state

# A shell lets what it runs in the background ignore SIGINT, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
BATCH, STEPS = 32, {steps}
# Longer than anyone waits, and the rates of so few steps are soon written down.
EPOCHS = 400_000 // STEPS
fastmlp.set_num_threads({threads})
_, labels, _ = batch(BATCH * STEPS, 1, 10)
x = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 200), dtype=np.uint8)
parts = [slice(BATCH * step, BATCH * step + BATCH) for step in range(STEPS)]

def network():
    return build([200, 300, 200, 10], dtype=np.float32, num_bn_layers=1, momentum=0.9, lr=1e-3)

class Seen:
    def on_progress(self, progress):
        self.epoch, self.step = progress.epoch, progress.step

def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)

def finished_steps(mlp, seen):
    again, done = network(), 0
    if seen.epoch:
        again.fit(x, labels, epochs=seen.epoch, batch_size=BATCH, shuffle=False)
    if seen.step:
        rows = BATCH * seen.step
        again.fit(x[:rows], labels[:rows], batch_size=BATCH, shuffle=False)
    for step in range(seen.step, seen.step + 2 * STEPS):
        if equal(state(mlp), state(again)):
            return seen.epoch * STEPS + step
        part = parts[step % STEPS]
        again.fit(x[part], labels[part], batch_size=BATCH, shuffle=False)
    raise AssertionError("the weights are of no whole number of steps")

network().fit(x[:99], labels[:99], batch_size=BATCH)
rng = random.Random({threads})
for attempt in range({attempts}):
    mlp, seen, sent = network(), Seen(), []
    seen.epoch = seen.step = 0
    def send():
        time.sleep({delay} * (1 + 4 * rng.random()))
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=send)
    try:
        thread.start()
        mlp.fit(x, labels, epochs=EPOCHS, batch_size=BATCH, shuffle=False, callbacks=[seen])
        raise SystemExit("fit came to its end")
    except KeyboardInterrupt:
        seconds = time.perf_counter() - sent[0]
    thread.join()
    finished_steps(mlp, seen)
    print(seconds, flush=True)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("steps", "attempts", "delay"),
    [(4000, 4, 0.06), (3, 40, 0.01)],
    ids=["in a long epoch", "often between epochs"],
)
def test_a_signal_stops_training_soon_and_between_steps(threads, steps, attempts, delay):
    """Half a second is promised. The best of several counts, since other processes take time."""
    program = SIGNALS.format(threads=threads, steps=steps, attempts=attempts, delay=delay)
    seconds = [float(line) for line in output_of("-c", program).split()]
    assert len(seconds) == attempts
    assert min(seconds) < 0.5
