"""An unfinished fit in a file: what is in it, and what is not taken for one."""

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp._fit_state import NETWORK_ARRAYS, NETWORK_COUNTERS
from tests.checkpoint_files import assert_refused, description_in, header_of, rewrite
from tests.networks import assert_refused_in_a_file
from tests.resumes import Interrupt, arguments, assert_same, network, outcome

pytest.importorskip("safetensors", reason="files of networks need the extra io")

KIND = "early stopping"


@pytest.fixture
def mlp():
    mlp = network(KIND)
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments(KIND, [Interrupt(20)]))
    return mlp


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_only_a_file_with_an_unfinished_fit_is_of_format_5(mlp, path):
    """So that others can still be read by those who know the format before."""
    mlp.save(path)
    names = {name for name in header_of(path) if name.startswith("fit.")}
    state = NETWORK_ARRAYS + NETWORK_COUNTERS
    assert names == {
        "fit.losses",
        "fit.errors",
        "fit.rates",
        *(f"fit.history.{name}" for name in (
            "train_loss", "train_error", "val_loss", "val_error", "epoch_seconds", "step_loss",
            "learning_rate", "val_r2", "step_learning_rate",
        )),
        *(f"fit.callbacks.0.best.{name}" for name in state),
        *(f"fit.network.{name}" for name in state),
    }  # fmt: skip
    assert description_in(path)["format"] == 5
    mlp.unfinished = None
    mlp.save(path)
    assert description_in(path)["format"] == 4
    assert "fit" not in description_in(path)


def test_rounded_weights_have_no_unfinished_fit(path):
    """They could not go on to the same bits."""
    mlp = network("bfloat16")
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments("bfloat16", [Interrupt(8)]))
    mlp.save(path, weights_dtype="bfloat16")
    assert MLP.load(path).unfinished is None
    assert description_in(path)["format"] == 4
    assert mlp.unfinished is not None


def test_what_is_loaded_is_saved_as_it_was(mlp, path):
    mlp.save(path)
    first = path.read_bytes()
    loaded = MLP.load(path)
    loaded.save(path)
    assert path.read_bytes() == first
    assert repr(loaded.unfinished) == repr(mlp.unfinished)
    assert loaded.unfinished.arguments == mlp.unfinished.arguments


def test_figures_that_are_not_finite(mlp, path):
    mlp.unfinished.history.val_loss[0] = np.nan
    mlp.unfinished.history.step_loss[:2] = [np.inf, -0.0]
    mlp.save(path)
    history = MLP.load(path).unfinished.history
    assert np.isnan(history.val_loss[0])
    assert str(history.step_loss[:2]) == "[inf, -0.0]"


def changed(fit, **changes):
    return {"fit": {k: v for k, v in (fit | changes).items() if v is not ...}}


def mersenne(pos):
    return {"bit_generator": "MT19937", "state": {"key": [0] * 624, "pos": pos}}


def philox(pos):
    state = {"counter": [0] * 4, "key": [0, 0]}
    return {
        "bit_generator": "Philox", "state": state, "buffer": [0] * 4, "buffer_pos": pos,
        "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip


FIELDS = {
    "none": (lambda fit: {"fit": {}}, "unfinished fit has the field arguments wrong"),
    "a list": (lambda fit: {"fit": []}, r"the field fit of its metadata is \[\]"),
    "one less": (lambda fit: changed(fit, told=...), "has the field told wrong"),
    "one less that may be null": (lambda fit: changed(fit, lost=...), "has the field lost wrong"),
    "one more": (lambda fit: changed(fit, more=1), "has the field more wrong"),
    "text for a number": (lambda fit: changed(fit, epoch="1"), "has the field epoch wrong"),
    "bool for a number": (lambda fit: changed(fit, epoch=True), "has the field epoch wrong"),
    "numbers for names": (lambda fit: changed(fit, told=[3]), "has the field told wrong"),
    "no epochs": (lambda fit: changed(fit, arguments={}), "must have its number of epochs"),
    "another epoch": (lambda fit: changed(fit, epoch=9), "history of the epochs before .* 9; got"),
    "no generator": (lambda fit: changed(fit, generator={}), "generator must be one of PCG64"),
    "another generator": (
        lambda fit: changed(fit, generator=fit["generator"] | {"bit_generator": "MT19937"}),
        "generator must have the state of a MT19937",
    ),
    "an own generator": (
        lambda fit: changed(fit, generator={"bit_generator": "Generator"}),
        "generator must be one of .* got 'Generator'",
    ),
    "a generator's text": (
        lambda fit: changed(fit, generator=fit["generator"] | {"state": "x"}),
        "generator must have the state of a PCG64",
    ),
    "a place outside": (
        lambda fit: changed(fit, generator=mersenne(pos=10**6)), "from 0 to 624, got 1000000"
    ),
    "a place before": (
        lambda fit: changed(fit, generator=philox(-1)), "from 0 to 4, got -1"
    ),
    "callbacks of no kind": (lambda fit: changed(fit, callbacks=[3]), "has the callback 0 wrong"),
    "a callback's names": (
        lambda fit: changed(fit, callbacks=[fit["callbacks"][0] | {"name": 3}]),
        "has the callback 0 wrong",
    ),
    "a callback's array": (
        lambda fit: changed(fit, callbacks=[fit["callbacks"][0] | {"arrays": ["best.more"]}]),
        r"lacks fit\.callbacks\.0\.best\.more",
    ),
    "a callback's array twice": (
        lambda fit: changed(
            fit, callbacks=[fit["callbacks"][0] | {"arrays": ["best.updates"] * 2}]
        ),
        "names an array of the callback 0 twice",
    ),
    "an array of no callback": (
        lambda fit: changed(fit, callbacks=[]), r"must not hold fit\.callbacks\.0\.best\.averages"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), FIELDS.values(), ids=FIELDS)
def test_fields_that_describe_no_unfinished_fit(change, message, mlp, path):
    mlp.save(path)
    assert_refused_in_a_file(mlp, change(description_in(path)["fit"]), message, path)


TENSORS = {
    "fit.losses": (None, "fit.losses must be .* got none"),
    "fit.errors": (np.zeros(1), "as many losses as errors and rates"),
    "fit.rates": (np.zeros(1), "as many losses as errors and rates"),
    "fit.history.step_loss": (np.zeros(3, np.float32), r"must be \(n,\) float64, got \(3,\)"),
    "fit.history.val_r2": (np.zeros((3, 3)), r"must be \(n,\) float64, got \(3, 3\)"),
    "fit.history.more": (np.zeros(3), r"must not hold fit\.history\.more"),
    "fit.network.parameters": (np.zeros(3), r"fit\.network\.parameters must .* got \(3,\)"),
    "fit.network.updates": (np.zeros((), np.int64), r"network\.updates must be uint64, got int64"),
    "fit.network.dropout_steps": (np.zeros(1, np.uint64), r"steps must be \(\), got \(1,\)"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_of_no_unfinished_fit(name, mlp, path):
    tensor, message = TENSORS[name]
    mlp.save(path)
    rewrite(path, tensors={name: tensor})
    assert_refused(path, message)


def test_tensors_without_their_field(mlp, path):
    mlp.save(path)
    rewrite(path, metadata={"fit": ...})
    assert_refused(path, r"must not hold fit\.")
    rewrite(path, metadata={"format": 4})
    assert_refused(path, r"must not hold fit\.")


def test_one_flipped_bit_is_an_error(mlp, path):
    """Anywhere in the whole, at some hundred places."""
    mlp.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 200, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a fastmlp network"):
            MLP.load(path)
    path.write_bytes(content)
    again = MLP.load(path)
    for network_ in (mlp, again):
        network_.fit(**arguments(KIND), resume=True)
    assert_same(outcome(again), outcome(mlp))
