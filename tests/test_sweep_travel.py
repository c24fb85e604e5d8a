"""What goes to other processes: data by their place, pickles beside them, flags, warnings."""

import os
import pickle
import sys
import threading
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp._cores import usable_cores
from fastmlp.sweeps import _travel, _worker
from fastmlp.sweeps._engine import engine_of
from fastmlp.sweeps._travel import LEAST_BYTES, FileFlag, Folder, packed, place_in_file, unpacked
from tests.sweeps import Direct

ROWS = LEAST_BYTES // 10
X = np.random.default_rng(0).random((ROWS, 10), np.float32)


@pytest.fixture
def folder():
    folder = Folder()
    yield folder
    folder.close()


@pytest.fixture
def x_file(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


VIEWS = {
    "all": lambda x: x,
    "rows": lambda x: x[7:],
    "every other": lambda x: x[::2, 1::3],
    "backwards": lambda x: x[::-1, ::-1],
    "transposed": lambda x: x.T,
    "plain": np.asarray,
    "a view of a view": lambda x: np.asarray(x[3:])[5:, 2:],
    "other dtype": lambda x: x.view(np.uint8),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_map_and_its_views_stay_in_their_file(view, x_file):
    array = VIEWS[view](np.load(x_file, mmap_mode="r"))
    placed = pickle.loads(pickle.dumps(place_in_file(array)))
    assert placed.path == str(x_file)
    found = placed.open()
    assert_array_equal(found, VIEWS[view](X), strict=True)
    assert found.strides == array.strides
    assert not found.flags.writeable


def test_what_was_written_to_a_map_is_seen(tmp_path):
    x = np.memmap(tmp_path / "raw", np.float64, "w+", offset=4096 + 8, shape=(30, 4), order="F")
    x[...] = np.arange(120).reshape(30, 4)
    assert_array_equal(place_in_file(x[2:]).open(), x[2:])


def test_what_is_in_no_file(x_file, tmp_path):
    changed = np.load(x_file, mmap_mode="c")
    changed[0] = 1
    removed = np.memmap(tmp_path / "removed", np.uint8, "w+", shape=(10,))
    (tmp_path / "removed").unlink()
    for array in (X, X[3:], changed, changed[1:], removed):
        assert place_in_file(array) is None


def test_an_array_is_put_once(folder):
    handles = [folder.handle(array) for array in (X, X[:], X.view())]
    assert len({handle.path for handle in handles}) == 1
    assert_array_equal(handles[0].open(), X)
    half = ROWS // 2
    assert_array_equal(folder.handle(X[:half]).open(), X[:half])
    assert_array_equal(folder.handle(X[::2][:half]).open(), X[::2][:half])
    for other in (X[1:], X[:, ::-1], X.view(np.int32), X.copy()):
        assert folder.handle(other).path != handles[0].path
        assert_array_equal(folder.handle(other).open(), other, strict=True)


def test_arrays_that_are_gone_are_not_taken_for_new_ones(folder):
    for value in range(50):
        array = np.full(ROWS, value)
        handle = folder.handle(array)
        assert (handle.open() == value).all()


def test_data_are_left_behind_and_the_rest_is_pickled(folder):
    few = np.arange(5)
    held = X[::2].copy()
    arguments = {"x": X, "labels": few, "validation_data": (held, few), "sample_weight": X}
    content, handles = packed(("it", arguments), arguments, folder)
    assert len(handles) == 2
    assert len(content) < 2000
    name, found = unpacked(content, handles)
    assert name == "it"
    for key, value in (("x", X), ("labels", few), ("sample_weight", X)):
        assert_array_equal(found[key], value, strict=True)
    assert_array_equal(found["validation_data"][0], held)
    assert isinstance(found["validation_data"], tuple)


def test_objects_are_not_left_behind(folder):
    words = np.array(["a"] * ROWS * 10, object)
    assert packed(words, {"x": words}, folder)[1] == []


def test_functions_travel_where_cloudpickle_is(folder, monkeypatch):
    pytest.importorskip("cloudpickle", reason="comes with Dask and loky")
    content, _ = packed(lambda: 3, {}, folder)
    assert unpacked(content, [])() == 3
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    _travel._pickler.cache_clear()
    try:
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            packed(lambda: 3, {}, folder)
        assert unpacked(*packed({"x": X}, {"x": X}, folder)).keys() == {"x"}
    finally:
        _travel._pickler.cache_clear()


def test_the_folder_is_there_as_long_as_it_is_needed():
    folder = Folder()
    folder.set_flag()
    folder.close()
    folder = Folder()
    path = folder.handle(X).path
    assert os.path.dirname(path) == folder.path
    folder.close()
    assert not os.path.exists(folder.path)


def test_a_full_disk_is_told_of(folder, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match=r"No space left.*0\.npy"):
        folder.handle(X)


def test_a_flag_is_a_file(folder):
    flag = pickle.loads(pickle.dumps(folder.flag))
    assert not flag.is_set()
    folder.set_flag()
    assert flag.is_set()
    assert pickle.loads(pickle.dumps(folder.flag)).is_set()


def test_a_flag_is_set_once_its_folder_is_gone(tmp_path):
    """But not for a machine that has never seen it."""
    (tmp_path / "folder").mkdir()
    flag, elsewhere = FileFlag(str(tmp_path / "folder/end")), FileFlag("/nowhere/end")
    for _ in range(2):
        assert not flag.is_set()
        assert not elsewhere.is_set()
    (tmp_path / "folder").rmdir()
    assert flag.is_set()


# In the worker


def test_visits_at_the_same_time_hear_their_own_warnings():
    """The last to go leaves threads and filters as they were."""
    before, filters, show = fastmlp.get_num_threads(), warnings.filters[:], warnings.showwarning
    barrier, heard, threads = threading.Barrier(2), {}, []

    def visit(name):
        heard[name] = []
        with _worker._guests.visit(2, heard[name]):
            barrier.wait(30)
            warnings.warn(name, stacklevel=1)
            threads.append(fastmlp.get_num_threads())
            barrier.wait(30)
            if name == "one":
                return
            barrier.wait(30)
            threads.append(fastmlp.get_num_threads())

    one, two = (threading.Thread(target=visit, args=(name,)) for name in ("one", "two"))
    one.start(), two.start()
    one.join(30)
    barrier.wait(30)
    two.join(30)
    assert {name: [str(said.message) for said in h] for name, h in heard.items()} == {
        "one": ["one"], "two": ["two"]
    }  # fmt: skip
    assert threads == [max(1, min(before, usable_cores() // 2))] * 3
    assert fastmlp.get_num_threads() == before
    assert (warnings.filters[:], warnings.showwarning) == (filters, show)


def test_an_error_that_cannot_be_pickled_goes_in_words():
    class Own(Exception):
        pass

    error = _worker._that_can_travel(Own("it is so"))
    assert (type(error), str(error)) == (RuntimeError, "Own: it is so")
    assert "Own: it is so" in error.__notes__[0]
    pickle.loads(pickle.dumps(error))


def test_ranks_of_a_machine_share_its_cores(monkeypatch):
    class Ranks(Direct):
        _max_workers = 15

    class Others(Ranks):
        pass

    Ranks.__module__ = "mpi4py.futures.pool"
    for name in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert engine_of(Ranks()).sharers == 15
    monkeypatch.setenv("MPI_LOCALNRANKS", "8")
    assert engine_of(Ranks()).sharers == 8
    assert engine_of(Others()).sharers == 15
