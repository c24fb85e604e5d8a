"""MLP.save and MLP.load: the same network comes back, and a file is whole or not there."""

import errno
import os
import stat
import sys

import numpy as np
import pytest

from fastmlp import MLP, Activation, Criterion, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh
from tests.bfloat16 import rounded
from tests.checkpoint_files import assert_refused, description_in, fit, header_of, trained
from tests.networks import assert_same_state, batch, build, state

pytest.importorskip("safetensors", reason="files of networks need safetensors")

NETWORKS = {
    "linear classifier": ([5, 3], [Identity], {}),
    "every activation": ([5, 7, 1, 4, 3], [ReLU, Tanh, Sigmoid, Identity], {"momentum": 0.9}),
    "batch norm on some": (
        [5, 7, 6, 3],
        [Sigmoid, ReLU, Identity],
        {"num_bn_layers": 1, "batchnorm_reduction": "mean", "weight_decay": 1e-3},
    ),
    "batch norm on all": ([5, 7, 3], [ReLU, Identity], {"num_bn_layers": 2, "momentum": 0.5}),
}

every_network = pytest.mark.parametrize(
    ("sizes", "activations", "options"), NETWORKS.values(), ids=NETWORKS
)


@pytest.fixture
def mlp():
    return trained()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# What is saved is what is loaded


@every_network
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_network_trains_on_identically(sizes, activations, options, dtype, path):
    mlp = build(sizes, activations, dtype=dtype, **options)
    fit(mlp)
    mlp.lr, mlp.momentum = 0.1 / 3, mlp.momentum / 3
    if mlp.bn_layers:
        mlp.bn_layers[0].alpha = 0.7
    mlp.save(path)
    loaded = MLP.load(path)
    assert loaded.dtype == np.dtype(dtype)
    assert_same_state(state(loaded), state(mlp))
    np.testing.assert_array_equal(loaded.velocities, mlp.velocities)
    assert repr(loaded) == repr(mlp)
    first, second = fit(mlp), fit(loaded)
    assert first.train_loss == second.train_loss
    assert_same_state(state(loaded), state(mlp))


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "auto"])
def test_what_products_are_computed_in(compute_dtype, path):
    """Kept, unless it is the network's own dtype, even by name."""
    mlp = build([5, 7, 3], dtype=np.float32, compute_dtype=compute_dtype)
    mlp.save(path)
    loaded = MLP.load(path)
    assert loaded.compute_dtype == compute_dtype
    x, _, _ = batch(9, 5, 3, dtype=np.float32)
    np.testing.assert_array_equal(loaded.predict_proba(x), mlp.predict_proba(x))
    mlp.compute_dtype = "float32"
    mlp.save(path)
    assert "compute_dtype" not in description_in(path)
    assert MLP.load(path).compute_dtype == "float32"


def test_weights_of_bfloat16(path, tmp_path):
    """Half the file, BF16 in its header; rounded once, and only weights and their momenta."""
    mlp = build([97, 128, 3], dtype="bfloat16", num_bn_layers=1, momentum=0.9)
    x, labels, _ = batch(33, 97, 3, dtype=np.float32)
    mlp.fit(x, labels, batch_size=8)
    whole = tmp_path / "whole.safetensors"
    mlp.save(whole)
    mlp.save(path, weights_dtype="bfloat16")
    assert path.stat().st_size < 0.54 * whole.stat().st_size
    for name, entry in header_of(path).items():
        assert entry["dtype"] == ("BF16" if name.endswith(("W", "momentum_W")) else "F32"), name
    loaded, expected = MLP.load(path), state(mlp)
    for name in expected:
        if name.startswith(("W", "momentum_W")):
            expected[name] = rounded(expected[name])
    assert_same_state(state(loaded), expected)
    np.testing.assert_array_equal(loaded.predict_proba(x), mlp.predict_proba(x))
    loaded.save(path, weights_dtype="bfloat16")
    assert_same_state(state(MLP.load(path)), expected)


def test_weights_of_bfloat16_that_are_not_finite(path):
    mlp = build([5, 7, 3], dtype=np.float32)
    mlp.linear_layers[0].W[0, :4] = np.nan, np.inf, -np.inf, np.finfo(np.float32).max
    # A NaN whose only bits are those that rounding drops.
    mlp.linear_layers[0].W[1, 0] = np.array(0x7F800001, np.uint32).view(np.float32)
    mlp.save(path, weights_dtype="bfloat16")
    w = MLP.load(path).linear_layers[0].W
    np.testing.assert_array_equal(w[0, :4], [np.nan, np.inf, -np.inf, np.inf])
    assert np.isnan(w[1, 0])


@pytest.mark.parametrize(
    ("dtype", "wanted"), [(np.float64, "bfloat16"), (np.float32, "float16"), (np.float32, 16)]
)
def test_weights_of_another_dtype_are_refused(dtype, wanted, path):
    with pytest.raises(ValueError, match=f"weights_dtype must be .* got {wanted!r}"):
        build([5, 3], dtype=dtype).save(path, weights_dtype=wanted)
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_truncated_file_of_bfloat16(cut, path):
    build([5, 7, 3], dtype=np.float32).save(path, weights_dtype="bfloat16")
    path.write_bytes(path.read_bytes()[:-cut])
    assert_refused(path, "not a fastmlp network")


def test_without_bias(path):
    mlp = MLP(5, 3, [7], [ReLU(), Identity()], lambda i, o: np.ones((i, o)), None,
              SoftmaxCrossEntropy(), 0.1)  # fmt: skip
    fit(mlp)
    mlp.save(path)
    loaded = MLP.load(path)
    assert all(layer.b is None for layer in loaded.linear_layers)
    assert_same_state(state(loaded), state(mlp))


def test_values_that_are_not_finite(mlp, path):
    mlp.linear_layers[0].W[0, :3] = [np.nan, np.inf, -0.0]
    mlp.save(path)
    loaded = MLP.load(path).linear_layers[0].W
    assert loaded.tobytes() == mlp.linear_layers[0].W.tobytes()


def test_equal_networks_give_equal_bytes(mlp, path):
    mlp.save(path)
    first = path.read_bytes()
    MLP.load(path).save(path)
    assert path.read_bytes() == first


def test_tensors_have_readable_names(mlp, path):
    from safetensors.numpy import load_file

    mlp.save(path)
    tensors = load_file(path)
    linear = [
        f"layers.{k}.{name}" for k in (0, 1) for name in ("W", "b", "momentum_W", "momentum_b")
    ]
    parameters = ["gamma", "beta", "momentum_gamma", "momentum_beta"]
    normalisation = [f"layers.0.{name}" for name in (*parameters, "running_mean", "running_var")]
    assert tensors.keys() == {*linear, *normalisation}
    np.testing.assert_array_equal(tensors["layers.1.W"], mlp.linear_layers[1].W)
    np.testing.assert_array_equal(tensors["layers.0.running_var"], mlp.bn_layers[0].running_var)


# Writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(mlp, path, monkeypatch):
    """The error names the file, which the system's own does not."""
    mlp.save(path)
    before = path.read_bytes()
    mlp.parameters[:] = 0

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(OSError, match=f"{os.strerror(errno.ENOSPC)}: '{path}'") as error:
                mlp.save(path)
        assert error.value.errno == errno.ENOSPC
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_that_was_there_hands_on_its_permissions(mode, mlp, path):
    path.touch()
    path.chmod(mode)
    mlp.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert_same_state(state(MLP.load(path)), state(mlp))


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_followed(there, mlp, path):
    folder = path.parent / "elsewhere"
    folder.mkdir()
    target = folder / "target"
    if there:
        target.write_text("old")
    path.symlink_to(target)
    mlp.save(path)
    assert path.is_symlink()
    assert path.readlink() == target
    assert_same_state(state(MLP.load(target)), state(mlp))
    assert os.listdir(folder) == ["target"]


@posix
def test_permissions_are_those_of_any_new_file(mlp, path):
    mlp.save(path)
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_the_folder_must_exist(mlp, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.*the folder .*missing does not exist"):
        mlp.save(tmp_path / "missing" / "model")


class Swish(Activation):
    name = "relu"


class Squared(Criterion):
    pass


def test_layers_of_the_callers_own_are_refused(path):
    arguments = lambda i, o: np.ones((i, o)), None
    for activation, criterion in ((Swish(), SoftmaxCrossEntropy()), (ReLU(), Squared())):
        mlp = MLP(5, 3, [], [activation], *arguments, criterion, 0.1)
        with pytest.raises(ValueError, match=r"only networks.*got.*(Swish|Squared)"):
            mlp.save(path)
        assert not path.exists()


def test_without_safetensors(mlp, path, monkeypatch):
    """Nothing is needed to read a file."""
    mlp.save(path)
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"safetensors.*it comes with the extra 'io'"):
        mlp.save(path)
    assert path.read_bytes() == before
    assert_same_state(state(MLP.load(path)), state(mlp))
