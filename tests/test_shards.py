"""Batches cut into shards, on one process: the tree of their sums, and what a fit makes of them."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp._ranks import Ranks
from fastmlp._shards import sum_of
from fastmlp.history import NotFiniteWarning
from tests.networks import batch, build, state
from tests.resumes import KINDS, OF_ARRAYS, arguments, assert_same, interrupted, network, outcome

# Kinds whose shards have no moments of their own.
OF_WHOLE_BATCHES = [k for k, kind in OF_ARRAYS.items() if not kind.network.get("num_bn_layers")]


def tree(rows):
    """The sum as the kernels' documentation has it."""
    rows = list(rows)
    while len(rows) > 1:
        pairs = [a + b for a, b in zip(rows[::2], rows[1::2], strict=False)]
        rows = pairs + rows[2 * len(pairs) :]
    return rows[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 12])
@pytest.mark.usefixtures("on_threads")
def test_sums_are_those_of_the_tree(count, dtype):
    """Between two columns, whose neighbours stay; wider than what is added at a time."""
    rows = np.random.default_rng(count).standard_normal((count, 4999)).astype(dtype)
    before = rows.copy()
    found = sum_of(rows, 3, 4990)
    assert_array_equal(found[3:4990], tree(before)[3:4990])
    assert_array_equal(rows[:, :3], before[:, :3])
    assert_array_equal(rows[:, 4990:], before[:, 4990:])


@pytest.mark.parametrize(("ranks", "each"), [(2, 4), (4, 2), (3, 4), (5, 1), (1, 7)])
def test_a_rank_s_sum_is_a_part_of_the_tree(ranks, each):
    rows = np.random.default_rng(0).standard_normal((ranks * each, 33)).astype(np.float32)
    whole = tree(rows)
    parts = np.array([sum_of(part.copy()) for part in np.split(rows, ranks)])
    assert_array_equal(sum_of(parts), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_one_shard_is_a_fit_without(kind):
    expected, found = network(kind), network(kind)
    expected.fit(**arguments(kind))
    found.fit(**arguments(kind), shards=1)
    assert_same(outcome(found), outcome(expected))


@pytest.mark.parametrize("shards", [2, 3, 16])
@pytest.mark.parametrize("kind", OF_WHOLE_BATCHES)
def test_shards_add_up_to_the_batch(kind, shards):
    """But for rounding; dropout draws the same masks; a batch has fewer rows than 16."""
    expected, found = network(kind), network(kind)
    expected.fit(**arguments(kind))
    found.fit(**arguments(kind), shards=shards)
    exact = found.dtype == np.float64
    for name, value in outcome(found).items():
        tolerance = {"rtol": 1e-9, "atol": 1e-11} if exact else {"rtol": 0.05, "atol": 0.01}
        assert_allclose(value, outcome(expected)[name], err_msg=name, **tolerance)
    if exact and kind != "plateau":
        assert not np.array_equal(found.parameters, expected.parameters)


def norm_of(mlp):
    """Which of the parameters are batch norm's."""
    copy = build([5, 7, 3], num_bn_layers=1)
    for layer in copy.linear_layers:
        layer.W[:], layer.b[:] = 0, 0
    copy.bn_layers[0].gamma[:], copy.bn_layers[0].beta[:] = 1, 1
    return copy.parameters == 1


def step_by_shards(mlp, x, labels, shards):
    """(parameters, statistics) after a step of gradient descent by the layer path."""
    statistics, moved = mlp.statistics.copy(), []
    gradients = np.zeros_like(mlp.parameters)
    for k in range(shards):
        rows = slice(k * len(x) // shards, (k + 1) * len(x) // shards)
        count = rows.stop - rows.start
        if count > 0:
            mlp.statistics = statistics
            mlp.forward(x[rows])
            mlp.backward(labels[rows])
            # Those of batch norm are sums until the step, others are means over the rows.
            gradients += np.where(norm_of(mlp), 1, count) * mlp.gradients
            moved.append(mlp.statistics.copy())
    return mlp.parameters - mlp.lr * gradients / len(x), np.mean(moved, axis=0)


@pytest.mark.parametrize("shards", [2, 4, 8])
@pytest.mark.parametrize("rows", [16, 13, 5])
def test_batch_norm_takes_the_moments_of_each_shard(rows, shards):
    """Of a batch of 5 rows some of eight shards have none. Statistics are averaged."""
    x, labels, _ = batch(rows, 5, 3)
    options = {"num_bn_layers": 1, "lr": None, "optimizer": fastmlp.optimizers.SGD(lr=0.1)}
    fitted, looped = build([5, 7, 3], **options), build([5, 7, 3], **options)
    fitted.fit(x, labels, batch_size=rows, shuffle=False, shards=shards)
    parameters, statistics = step_by_shards(looped, x, labels, shards)
    assert_allclose(fitted.statistics, statistics, rtol=1e-12)
    assert_allclose(fitted.parameters, parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("forced_threads")
def test_the_number_of_threads_changes_nothing(monkeypatch):
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    found = []
    for threads in (1, 2, 3):
        fastmlp.set_num_threads(threads)
        mlp = network("inputs")
        mlp.fit(**arguments("inputs"), shards=4)
        found.append(outcome(mlp))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


@pytest.mark.parametrize("shard", range(4))
def test_a_loss_that_is_not_finite_in_one_shard_ends_before_the_update(shard):
    x, labels, _ = batch(40, 5, 3)
    whole = build([5, 7, 3], num_bn_layers=1)
    whole.fit(x, labels, batch_size=8, shuffle=False, shards=4, max_steps=3)
    x[24 + 2 * shard] = np.inf
    mlp = build([5, 7, 3], num_bn_layers=1)
    with pytest.warns(NotFiniteWarning, match="epoch 1, step 4"), np.errstate(all="ignore"):
        history = mlp.fit(x, labels, batch_size=8, shuffle=False, shards=4, check_finite=False)
    for name, value in state(whole).items():
        assert_array_equal(state(mlp)[name], value, err_msg=name)
    assert len(history.step_loss) == 4
    assert not np.isfinite(history.step_loss[-1])


@pytest.mark.parametrize("step", [0, 4, 11])
@pytest.mark.parametrize("kind", ["momentum", "float32, batch norm", "accumulate, drop last"])
@pytest.mark.usefixtures("short_calls")
def test_an_interrupted_fit_goes_on_to_the_same_bits(kind, step):
    expected = network(kind)
    expected.fit(**arguments(kind), shards=4)
    mlp = interrupted(kind, step, shards=4)
    mlp.fit(**arguments(kind), shards=4, resume=True)
    assert_same(outcome(mlp), outcome(expected))


def test_a_fit_goes_on_with_its_own_shards_alone():
    mlp = interrupted("momentum", 4, shards=4)
    for shards, got in ((8, "8"), (None, "None")):
        with pytest.raises(ValueError, match=f"shards must be that .* 4, got {got}"):
            mlp.fit(**arguments("momentum"), shards=shards, resume=True)


def test_shards_do_not_depend_on_an_optimizer_that_a_callback_has_put_in():
    """Which needs other buffers, for which there are new rows of gradients."""

    class Swap:
        def on_epoch_end(self, mlp, history):
            if len(history.train_loss) == 1:
                mlp.optimizer = fastmlp.optimizers.Adam(lr=0.01, average=0.9)

    kept, cut = build([5, 17, 3]), build([5, 17, 3])
    x, labels, _ = batch(41, 5, 3)
    for mlp, shards in ((kept, None), (cut, 4)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mlp.fit(x, labels, epochs=3, batch_size=8, seed=0, callbacks=[Swap()], shards=shards)
    assert_allclose(cut.parameters, kept.parameters, rtol=1e-9)


def test_who_shares_what():
    """Rows among ranks, and shards."""

    class Comm:
        def __init__(self, rank):
            self.Get_rank, self.Get_size = (lambda: rank), (lambda: 3)

    every = [Ranks(Comm(rank)) for rank in range(3)]
    for ranks in every:
        ranks.cut(12)
    assert [list(ranks.own) for ranks in every] == [[*range(4)], [*range(4, 8)], [*range(8, 12)]]
    assert [ranks.share(10) for ranks in every] == [(0, 3), (3, 6), (6, 10)]
    for wrong in (9, 2, 4):
        with pytest.raises(ValueError, match=f"the number of ranks, 3, .*got {wrong}"):
            every[0].cut(wrong)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OF_ARRAYS])
def test_blocks_are_not_cut_into_shards(kind):
    mlp = network(kind)
    before = state(mlp)
    with pytest.raises(ValueError, match=r"shards need x and labels in arrays.*got blocks"):
        mlp.fit(**arguments(kind), shards=2)
    with pytest.raises(ValueError, match=r"shards need x and labels in arrays.*got blocks"):
        build([5, 4, 3]).fit(*batch(9, 5, 3)[:2], shuffle="blocks", shards=2)
    assert_same(state(mlp), before)
