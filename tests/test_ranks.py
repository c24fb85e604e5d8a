"""One fit of several processes: the same bits for any number of them, and the same end on all."""

import functools

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp._cores import usable_cores
from tests.mpi import needs_mpi, of_ranks, programs
from tests.rank_programs import digests, fit, small
from tests.resumes import OF_ARRAYS, arguments, network

pytestmark = needs_mpi


TOGETHER = (
    "kinds:8:memory", "kinds:8:messages", "without_a_seed", "every_row", "figures", "listeners",
    "refused", "on_one_rank", "not_finite", "threads", "forms",
)  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Where two ranks leave a network, by the program's name; each in a folder of its own."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("interrupted", "checkpoint")}
    return {name: folder / "model.safetensors" for name, folder in folders.items()}


def run_together(count, *lines, **environment):
    """What each of the programs returns, by its line: starting the ranks takes seconds."""
    return dict(zip(lines, of_ranks(count, *lines, **environment), strict=True))


@pytest.fixture(scope="module")
def two(paths):
    """Of two ranks, which leave files for other numbers of ranks."""
    # What is not compiled yet is compiled here: each of the ranks would do it by itself.
    for kind in OF_ARRAYS:
        alone(kind, 8)
    fit(small(dtype=np.float32), comm=None, shards=2)
    return run_together(2, *TOGETHER, *(f"{name}:{path}" for name, path in paths.items()))


@pytest.fixture(scope="module")
def four(two, paths):
    """Of four ranks, of which the user says how many threads they are to have."""
    lines = "kinds:8:memory", "own_rows", "refused", f"goes_on:{paths['interrupted']}", "threads"
    return run_together(4, *lines, FASTMLP_NUM_THREADS="3")


@functools.cache
def alone(kind, shards):
    mlp = network(kind)
    mlp.fit(**arguments(kind), shards=shards)
    return digests(mlp)


def assert_bits_of_one_process(found, shards):
    """Of every kind of fit; and all that the ranks say of it is equal, down to the seconds."""
    first, *others = found
    assert all(other == first for other in others)
    for kind in OF_ARRAYS:
        values = {name: value for name, value in first[kind].items() if name != "seconds"}
        assert values == alone(kind, shards), kind


@pytest.mark.parametrize("way", ["memory", "messages"])
def test_two_ranks_end_in_the_same_bits(way, two):
    assert_bits_of_one_process(two[f"kinds:8:{way}"], 8)


def test_four_ranks_end_in_the_same_bits_and_read_their_own_rows(four):
    assert_bits_of_one_process(four["kinds:8:memory"], 8)
    mlp = small()
    fit(mlp, shuffle=False, comm=None, shards=4)
    assert four["own_rows"] == [digests(mlp)] * 4


@pytest.mark.long
@pytest.mark.parametrize(("count", "shards"), [(8, 8), (4, 8), (3, 6), (3, 12), (5, 5), (7, 14)])
def test_many_ranks_end_in_the_same_bits(count, shards):
    lines = f"kinds:{shards}:memory", f"kinds:{shards}:messages"
    for found in of_ranks(count, *lines):
        assert_bits_of_one_process(found, shards)


def test_ranks_read_x_in_place(two):
    """None looks at rows that are not its own."""
    assert two["forms"] == [["float64"]] * 2


def test_order_and_masks_are_the_first_rank_s_where_nobody_has_said_them(two):
    first, second = two["without_a_seed"]
    assert first == second
    # Another fit has others.
    assert first[0] != first[1]


def test_without_a_seed_an_epoch_has_every_row_once(two):
    for loss, of_all in two["every_row"]:
        assert loss == pytest.approx(of_all, rel=1e-12)


def test_validation_figures_are_those_of_all_rows(two):
    for loss, error, *evaluated in two["figures"]:
        assert [loss, error] == evaluated


def test_callbacks_are_called_on_all_ranks_but_those_that_write(two):
    """And the True of one ends the fit on all."""
    assert two["listeners"] == [[3, 3, 1], [0, 3, 1]]


def test_ranks_that_differ_are_refused_by_name_on_all(two):
    first, second = two["refused"]
    assert first == second
    for name, (kind, message, unchanged) in first.items():
        assert kind == "ValueError"
        assert message.startswith(f"all ranks of a fit must have the same {name}, got ")
        assert " on rank 0 and " in message
        assert message.endswith(" on rank 1")
        assert unchanged, name


def test_four_ranks_name_those_that_differ(four):
    assert four["refused"][0]["epochs"][1].endswith("got 3 on rank 0 and 4 on ranks 1, 2, 3")


def test_an_error_of_one_rank_ends_the_fit_on_all(two):
    """Each of which is as after its last step, and can go on."""
    first, second = two["on_one_rank"]
    says = "x[40, 2] must be finite, got nan"
    assert first["x"] == ["RankError", f"rank 1 of 2 failed: ValueError: {says}", True]
    assert second["x"] == ["ValueError", says, True]
    assert first["shards"] == second["shards"]
    assert first["callback"][1] == "rank 1 of 2 failed: ZeroDivisionError: no callback"
    assert second["callback"][:2] == ["ZeroDivisionError", "no callback"]
    assert first["callback"][2] == second["callback"][2] > 0
    mlp = small(dropout=0.2)
    fit(mlp, comm=None, shards=2)
    assert first["resumed"] == second["resumed"] == digests(mlp)


def test_a_signal_at_one_rank_ends_the_fit_of_all_at_one_step(two, four, paths):
    """It goes on from a file, on another number of ranks, to the bits of a fit left alone."""
    first, second = two[f"interrupted:{paths['interrupted']}"]
    assert first == second
    assert first[0] == 1
    expected = small(dropout=0.2)
    fit(expected, comm=None, shards=4)
    assert four[f"goes_on:{paths['interrupted']}"] == [digests(expected)] * 4
    single = MLP.load(paths["interrupted"])
    fit(single, comm=None, shards=4, resume=True)
    assert digests(single) == digests(expected)


def test_a_checkpoint_is_one_file_from_which_one_process_goes_on(two, paths):
    path = paths["checkpoint"]
    assert two[f"checkpoint:{path}"] == [[path.name]] * 2
    expected, mlp = small(dropout=0.2), MLP.load(path)
    assert mlp.unfinished.epoch == 0
    fit(mlp, comm=None, shards=4, resume=True)
    fit(expected, comm=None, shards=4)
    assert digests(mlp) == digests(expected)


def test_a_loss_of_one_rank_that_is_not_finite_ends_the_fit_of_all(two):
    first, second = two["not_finite"]
    assert first == second
    assert "the loss is nan in epoch 1, step 6" in first[0]
    assert np.isfinite(first[1]).all()


def test_ranks_of_one_machine_share_its_cores(two):
    assert two["threads"] == [max(1, usable_cores() // 2)] * 2


def test_a_user_says_how_many_threads_a_rank_has(four):
    assert four["threads"] == [3] * 4


def test_a_rank_that_is_killed_ends_all():
    """mpiexec names its process."""
    status, output, _ = programs(2, "killed")
    assert status != 0
    pid, said = output.split("\n", 1)
    assert f"PID {pid} RUNNING AT" in said
    assert "Killed (signal 9)" in said


def test_an_error_where_others_wait_ends_all_and_names_the_rank():
    status, _, errors = programs(2, "fails_between")
    assert status != 0
    assert "MemoryError: no room" in errors
    assert "fastmlp: rank 1 of 2 failed, and ends the others" in errors
