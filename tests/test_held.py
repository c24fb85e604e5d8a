"""A training set that is held in a smaller form: when, in which, and that no bit tells."""

import mmap
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import _sources, callbacks, get_training_stats, warmup
from fastmlp.history import NotFiniteWarning
from tests.held import forms_read
from tests.networks import build
from tests.resumes import (
    BATCH,
    LABELS,
    OF_ARRAYS,
    SAMPLES,
    SIZES,
    Interrupt,
    arguments,
    assert_same,
    interrupted,
    network,
    outcome,
    twin,
)

BYTES = np.random.default_rng(3).integers(0, 256, (SAMPLES, SIZES[0]), dtype=np.uint8)
PIXELS = BYTES / 255
SINGLES = np.random.default_rng(4).standard_normal(PIXELS.shape).astype(np.float32).astype(float)


# The bits of a fit


def fitted(kind, x, **more):
    """(all that came of a fit, the forms in which x was read)."""
    mlp = network(kind)
    with forms_read(more.pop("least_bytes", 0)) as forms:
        mlp.fit(**arguments(kind) | {"x": x} | more)
    return outcome(mlp), forms


def dtype_of(kind):
    return network(kind).dtype.type


@pytest.mark.parametrize("x_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("kind", OF_ARRAYS)
def test_pixels_are_held_as_bytes_to_the_same_bits(kind, shuffle, x_dtype):
    """With batch norm, dropout, weights, averages, a schedule, bfloat16, early stopping ..."""
    x = BYTES.astype(x_dtype) / x_dtype(255)
    expected, forms = fitted(kind, x, shuffle=shuffle, least_bytes=1 << 24)
    assert forms == {np.dtype(x_dtype).name}
    found, forms = fitted(kind, x, shuffle=shuffle)
    assert_same(found, expected)
    quotients_differ = x_dtype == np.float32 and dtype_of(kind) == np.float64
    assert forms == {"float32" if quotients_differ else "uint8"}
    assert_array_equal(x, BYTES.astype(x_dtype) / x_dtype(255))


@pytest.mark.parametrize("kind", OF_ARRAYS)
@pytest.mark.parametrize("x", [SINGLES, SINGLES + 2.0**-30], ids=["float32", "float64"])
def test_float64_is_held_as_float32_where_it_is_or_where_a_network_rounds(kind, x):
    expected, _ = fitted(kind, x, least_bytes=1 << 24)
    found, forms = fitted(kind, x)
    assert_same(found, expected)
    rounds = dtype_of(kind) == np.float32
    assert forms == {"float32" if rounds or x is SINGLES else "float64"}


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "Fortran": np.asfortranarray, "read-only": read_only, "one row": lambda x: x[:1].copy(),
    "the first rows": lambda x: x[:30], "columns of another": lambda x: np.array(x.T).T,
    "one column": lambda x: x[:, :1].copy(),
}  # fmt: skip


@pytest.mark.parametrize("x", [PIXELS, SINGLES], ids=["uint8", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_in_any_order_without_gaps(layout, x):
    laid = layout(x)
    runs = []
    for least_bytes in (1 << 24, 0):
        mlp = build([laid.shape[1], 7, SIZES[-1]], momentum=0.9)
        with forms_read(least_bytes) as forms:
            mlp.fit(laid, LABELS[: len(laid)], epochs=3, batch_size=BATCH, seed=2)
        runs.append((outcome(mlp), forms))
    assert_same(runs[1][0], runs[0][0])
    assert runs[0][1] == {"float64"}
    assert runs[1][1] == {"uint8" if x is PIXELS else "float32"}


@pytest.mark.usefixtures("on_threads")
def test_by_default_from_4_mb_on_with_a_last_number_that_counts():
    """On any number of threads."""
    rows = _sources.LEAST_BYTES // (512 * 8)
    x = np.random.default_rng(0).integers(0, 256, (rows, 512), dtype=np.uint8) / 255
    labels = np.arange(rows) % 3

    def parameters(least_bytes, form, x=x):
        mlp = build([512, 5, 3], momentum=0.9)
        with forms_read(least_bytes) as forms:
            mlp.fit(x, labels[: len(x)], epochs=2, batch_size=250, seed=0)
        assert forms == {form}
        return mlp.parameters

    for last, form in ((x[-1, -1], "uint8"), (np.nextafter(x[-1, -1], 2), "float64")):
        x[-1, -1] = last
        expected = parameters(x.nbytes + 1, "float64")
        assert_array_equal(parameters(_sources.LEAST_BYTES, form), expected)
    parameters(_sources.LEAST_BYTES, "float64", x=x[1:])


# When


def test_a_fit_on_shards_reads_it_too():
    expected, _ = fitted("momentum", PIXELS, shards=3, least_bytes=1 << 24)
    found, forms = fitted("momentum", PIXELS, shards=3)
    assert_same(found, expected)
    assert forms == {"uint8"}


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"epochs": 1}, 6), ({"epochs": 3, "max_steps": 11}, 11), ({"epochs": 2}, 12),
     ({"epochs": 9, "max_steps": 12}, 12)],
)  # fmt: skip
def test_a_fit_of_too_few_steps_is_not_worth_it(options, steps):
    """Where the fewest epochs are two."""
    mlp = network("momentum")
    with forms_read() as forms:
        history = mlp.fit(PIXELS, LABELS, batch_size=BATCH, seed=0, **options)
    assert len(history.step_loss) == steps
    assert forms == {"uint8" if steps >= 12 else "float64"}


@pytest.mark.parametrize(
    ("x", "epochs", "form"),
    [(PIXELS, 4, "float64"), (PIXELS, 5, "uint8"), (SINGLES, 19, "float64"),
     (SINGLES, 20, "float32")],
)  # fmt: skip
def test_every_form_has_its_fewest_epochs(x, epochs, form):
    with forms_read(least_epochs=None) as forms:
        network("momentum").fit(x, LABELS, epochs=epochs)
    assert forms == {form}


@pytest.mark.parametrize(("width", "form"), [(37, "uint8"), (38, "float64")])
def test_in_wide_networks_it_would_gain_nothing(width, form, monkeypatch):
    """8 multiply-adds an output of the hidden layer, and 5 inputs."""
    monkeypatch.setattr(_sources, "MOST_WORK", 60)
    with forms_read() as forms:
        build([5, width, 3]).fit(PIXELS, LABELS, epochs=2)
    assert forms == {form}


def mapped(path):
    np.save(path, PIXELS)
    return np.load(path, mmap_mode="r")


def in_memory_of_another():
    memory = mmap.mmap(-1, PIXELS.nbytes)
    x = np.frombuffer(memory).reshape(PIXELS.shape)
    x[:] = PIXELS
    return x


ELSEWHERE = {
    "a map": mapped, "a view of a map": lambda path: np.asarray(mapped(path))[1:40][:38],
    "memory of another": lambda path: in_memory_of_another(),
    "every other row": lambda path: np.repeat(PIXELS, 2, axis=0)[::2],
    "some columns": lambda path: np.hstack([PIXELS, PIXELS])[:, : SIZES[0]],
}  # fmt: skip


@pytest.mark.parametrize("make", ELSEWHERE.values(), ids=ELSEWHERE)
def test_memory_that_numpy_has_not_taken_and_arrays_with_gaps_are_read_in_place(make, tmp_path):
    x = make(tmp_path / "x.npy")
    _, forms = fitted("momentum", x, labels=LABELS[: len(x)])
    assert forms == {"float64"}


def test_blocks_are_read_as_they_are():
    _, forms = fitted("momentum", PIXELS, shuffle="blocks")
    assert forms == {"float64"}


def test_fastmlps_own_callbacks_leave_the_data_alone(tmp_path):
    own = [
        callbacks.EarlyStopping(5, monitor="train_loss"), callbacks.CSVLogger(tmp_path / "a.csv"),
        callbacks.Checkpoint(tmp_path / "a.safetensors"),
    ]  # fmt: skip
    _, forms = fitted("momentum", PIXELS, callbacks=own, progress=True)
    assert forms == {"uint8"}


class Logger(callbacks.CSVLogger):
    pass


def test_a_class_of_a_users_made_from_one_of_them_is_a_users(tmp_path):
    _, forms = fitted("momentum", PIXELS, callbacks=[Logger(tmp_path / "a.csv")])
    assert forms == {"float64"}


def test_what_a_callback_changes_in_x_is_trained_on():
    """From the next epoch on, as if a fit began there."""

    class Darker:
        def on_epoch_end(self, mlp, history):
            x[:] = np.round(x * 100) / 255

    x = PIXELS.copy()
    changed, plain = network("momentum"), network("momentum")
    with forms_read():
        changed.fit(x, LABELS, epochs=2, batch_size=BATCH, shuffle=False, callbacks=[Darker()])
    plain.fit(PIXELS, LABELS, batch_size=BATCH, shuffle=False)
    plain.fit(np.round(PIXELS * 100) / 255, LABELS, batch_size=BATCH, shuffle=False)
    assert_array_equal(changed.parameters, plain.parameters)


def test_without_memory_for_it_a_fit_goes_without(monkeypatch):
    def none(*arguments):
        raise MemoryError

    expected, _ = fitted("momentum", PIXELS)
    # Of ``_sources`` alone: others need memory, too.
    monkeypatch.setattr(_sources, "np", SimpleNamespace(**vars(np) | {"empty_like": none}))
    found, forms = fitted("momentum", PIXELS)
    assert_same(found, expected)
    assert forms == {"float64"}


# What else looks at x


@pytest.mark.parametrize("way", ["memory", "file"])
def test_an_unfinished_fit_knows_x_as_it_was_given(way, monkeypatch, tmp_path):
    """Begun held and gone on as it is, or the other way round: the same bits."""
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    # The callback that interrupts is no one's who changes x.
    monkeypatch.setattr(
        "fastmlp._sources._is_own", lambda callback: isinstance(callback, Interrupt)
    )
    expected, _ = fitted("momentum", PIXELS)
    ways = {"uint8": 0, "float64": 1 << 24}
    for first, then in (ways, reversed(ways)):
        with forms_read(ways[first]) as forms:
            mlp = interrupted("momentum", 8, x=PIXELS)
        assert forms == {first}
        assert mlp.unfinished.arguments["x"]["dtype"] == "float64"
        with pytest.raises(ValueError, match="x must be that of the unfinished fit"):
            mlp.fit(**arguments("momentum") | {"x": BYTES}, resume=True)
        with forms_read(ways[then]) as forms:
            twin_ = twin(mlp, way, tmp_path / "a.safetensors")
            twin_.fit(**arguments("momentum") | {"x": PIXELS}, resume=True)
        assert forms == {then}
        assert_same(outcome(twin_), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_named_or_trained_on_as_before(dtype, bad):
    x = PIXELS.copy()
    x[-1, -1] = bad
    mlp = build(SIZES, dtype=dtype)
    with forms_read(), pytest.raises(ValueError, match=rf"^x\[40, 4\] must be finite, got {bad}$"):
        mlp.fit(x, LABELS, epochs=2)
    losses = []
    for least_bytes in (0, 1 << 24):
        mlp = build(SIZES, dtype=dtype)
        with forms_read(least_bytes) as forms, pytest.warns(NotFiniteWarning):
            history = mlp.fit(
                x, LABELS, epochs=2, batch_size=BATCH, shuffle=False, check_finite=False
            )
        assert forms == {"float64"}
        losses.append(history.step_loss)
    assert_array_equal(*losses)


def test_what_is_held_is_not_looked_at_for_nan_again(monkeypatch):
    """Labels are, and x that is read as it is."""
    looked_at = []

    def look(name, array, rows=None):
        looked_at.append(name)

    monkeypatch.setattr("fastmlp._blocks.check_all_finite", look)
    rows = np.eye(3)[LABELS]
    for x, names in ((PIXELS, []), (SINGLES, []), (SINGLES + 2.0**-30, ["x"])):
        fitted("momentum", x, labels=rows)
        assert looked_at == [*names, "labels"]
        looked_at.clear()


def test_get_training_stats_holds_it():
    rows = np.eye(3)[LABELS]
    curves = []
    for least_bytes in (1 << 24, 0):
        mlp = build(SIZES, momentum=0.9)
        np.random.seed(4)
        with forms_read(least_bytes) as forms:
            curves.append(get_training_stats(mlp, [(PIXELS, rows)] * 3, 2, BATCH))
        curves[-1] = [*curves[-1], mlp.parameters]
        assert forms == {"float64" if least_bytes else "uint8"}
    for found, expected in zip(*curves, strict=True):
        assert_array_equal(found, expected)
    x = PIXELS.copy()
    x[7, 2] = np.nan
    with forms_read(), pytest.raises(ValueError, match=r"^dset\[0\]\[0\]\[7, 2\] must be finite"):
        get_training_stats(mlp, [(x, rows), (x, rows), (x, rows)], 2, BATCH)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_estimators_hold_it(dtype):
    pytest.importorskip("sklearn", reason="estimators need the extra sklearn")
    from fastmlp.estimators import MLPClassifier

    x = PIXELS.astype(dtype)
    fits_ = []
    for least_bytes in (1 << 24, 0):
        with forms_read(least_bytes) as forms:
            model = MLPClassifier((7,), max_iter=3, random_state=0).fit(x, LABELS)
        assert forms == {np.dtype(dtype).name if least_bytes else "uint8"}
        fits_.append(np.concatenate([w.ravel() for w in model.coefs_]))
    assert_array_equal(*fits_)
    with forms_read() as forms:
        model.partial_fit(x, LABELS)
    assert forms == {np.dtype(dtype).name}


def test_warmup_compiles_all_that_a_fit_may_call(monkeypatch):
    called = {"warmup": set(), "_sources": set()}

    def noted(module):
        def call(held, x, dtype):
            called[module].add((held.dtype.name, x.dtype.name, np.dtype(dtype).name))
            return False

        return call

    for module in called:
        monkeypatch.setattr(f"fastmlp.{module}.hold", noted(module))
    for dtype in (np.float32, np.float64):
        warmup._compile(dtype, None)
        for x_dtype in (np.float32, np.float64):
            with forms_read():
                build(SIZES, dtype=dtype).fit(PIXELS.astype(x_dtype), LABELS, epochs=2)
    assert called["warmup"] == called["_sources"]
    assert len(called["warmup"]) == 6
