"""Epochs of smaller vocabularies: what they leave out, when they are taken, and the same bits."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import GELU, Identity, LeakyReLU, SiLU, _layer_path, engine, optimizers
from fastmlp._layout import LayerSpec, Layout
from fastmlp.engine import Objective, vocabulary_of
from fastmlp.kernels import _compiled as compiled
from fastmlp.kernels._compiled import Epoch, vocabulary_for
from fastmlp.kernels._jit import entry, inline, inline_where
from fastmlp.kernels._reference import Pinned, Reference, refer
from fastmlp.kernels._units import FLOATS, EmulatedUnit, FloatUnit
from fastmlp.kernels._vocabulary import (
    APART,
    VOCABULARIES,
    ZEROS,
    Apart,
    ApartZeros,
    Norms,
    NormsApart,
    NormsApartZeros,
    NormsZeros,
    Plain,
    PlainZeros,
    Rare,
    RareApart,
    Whole,
    needs,
    smallest_with,
    wider,
)
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.kernels.embed import EmbeddingSizes
from fastmlp.kernels.pointwise import OWN, SOFTMAX, Loss
from fastmlp.kernels.rules import RULES
from fastmlp.kernels.update import UpdateOptions
from fastmlp.layers import MeanSquaredError, SoftmaxCrossEntropy
from tests.networks import assert_same_state, batch, build, state

PLAIN = LayerSpec(4, 4, ACTIVATIONS["tanh"], True, False)

EXTRAS = {
    "batchnorm": True,
    "dropout": 0.1,
    "layernorm": True,
    "residual": True,
    "scaled": True,
    "parametric": True,
    "embedding": EmbeddingSizes(1, 2, 3),
}


def layout(*specs):
    return Layout(specs, np.float64)


def test_every_field_of_a_layer_is_known():
    """One that is added must be a reason for the whole vocabulary, or be named here."""
    without = {"inputs", "outputs", "activation", "bias", "alpha"}
    assert set(LayerSpec._fields) == without | set(EXTRAS)


@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_extras_take_more(name, place):
    specs = [PLAIN] * 3
    assert type(vocabulary_of(layout(*specs), Objective())) is Plain
    specs[place] = PLAIN._replace(**{name: EXTRAS[name]})
    frequent = name in ("batchnorm", "dropout")
    for apart, kinds in ((False, (Whole, Norms)), (True, (Whole, NormsApart))):
        found = vocabulary_of(layout(*specs), Objective(apart=apart))
        assert type(found) is kinds[frequent]
        rare = Objective(apart=apart, loss=Loss(OWN))
        assert type(vocabulary_of(layout(*specs), rare)) is Whole


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_rare_activations_take_more(name, place):
    specs = [PLAIN] * 3
    specs[place] = PLAIN._replace(activation=ACTIVATIONS[name])
    frequent = name in ("identity", "sigmoid", "tanh", "relu", "leaky_relu")
    for apart, kinds in ((False, (Rare, Plain)), (True, (RareApart, Apart))):
        found = vocabulary_of(layout(*specs), Objective(apart=apart))
        assert type(found) is kinds[frequent]


def test_so_does_one_that_keeps_its_slope():
    """As a leaky ReLU does that turns the sign."""
    spec = PLAIN._replace(activation=LeakyReLU(-0.3).formula(np.float64))
    assert type(vocabulary_of(layout(PLAIN, spec), Objective())) is Rare


def test_so_do_losses_other_than_softmax():
    for code in range(OWN + 1):
        found = vocabulary_of(layout(PLAIN), Objective(loss=Loss(code)))
        assert type(found) is (Plain if code == SOFTMAX else Rare)


def test_sums_of_squares_stand_with_updates_apart():
    assert type(vocabulary_of(layout(PLAIN), Objective(squares=True))) is Apart


def test_and_rare_rules():
    for rule in range(len(RULES) + 1):
        objective = Objective(options=UpdateOptions(rule, np.inf, np.inf, 0.0), apart=True)
        frequent = rule < len(RULES) and RULES[rule].name in ("momentum", "sgd", "adam")
        assert type(vocabulary_of(layout(PLAIN), objective)) is (Apart if frequent else RareApart)


def test_the_wider_ones_know_all_that_a_vocabulary_does():
    assert wider(Plain()) == list(VOCABULARIES)
    assert wider(PlainZeros()) == [PlainZeros, ApartZeros, NormsZeros, NormsApartZeros, Whole]
    assert wider(Apart()) == [Apart, ApartZeros, NormsApart, NormsApartZeros, RareApart, Whole]
    assert wider(ApartZeros()) == [ApartZeros, NormsApartZeros, Whole]
    assert wider(Norms()) == [Norms, NormsZeros, NormsApart, NormsApartZeros, Whole]
    assert wider(NormsZeros()) == [NormsZeros, NormsApartZeros, Whole]
    assert wider(NormsApart()) == [NormsApart, NormsApartZeros, Whole]
    assert wider(Rare()) == [Rare, RareApart, Whole]
    assert wider(RareApart()) == [RareApart, Whole]
    assert wider(Whole()) == [Whole]


DROPOUT = {"dropout": [0.2, 0.0, 0.3], "dropout_seed": 7}
FITS = {
    "momentum": (Plain, {}),
    "adam": (Apart, {"lr": None, "optimizer": optimizers.Adam(lr=0.01)}),
    "clipped": (Apart, {"lr": None, "optimizer": optimizers.Momentum(lr=0.05, clip_norm=0.1)}),
    "norms": (Norms, {"num_bn_layers": 2, **DROPOUT}),
    "norms_adam": (
        NormsApart,
        {"lr": None, "optimizer": optimizers.Adam(lr=0.01), "num_bn_layers": 1, **DROPOUT},
    ),
    "silu": (Rare, {"activations": [SiLU, GELU, Identity]}),
    "lion": (RareApart, {"lr": None, "optimizer": optimizers.Lion(lr=0.01)}),
}


# The rare ones in one dtype, since each vocabulary of each takes some ten seconds to compile.
# Updates apart are the same code in float32 as in float64; pairs of bfloat16 are rounded in it.
WANTED = {
    np.float64: set(VOCABULARIES) - {ApartZeros, NormsZeros, NormsApartZeros},
    "bfloat16": {Plain, Apart, Whole},
}
LONG = ("adam", "clipped", "norms", "norms_adam")
CASES = [
    *((name, dtype) for dtype in WANTED for name in FITS if FITS[name][0] in WANTED[dtype]),
    ("momentum", np.float32),
    *(pytest.param(name, np.float32, marks=pytest.mark.long) for name in LONG),
]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_all_vocabularies_end_in_the_same_bits(name, dtype, monkeypatch):
    """In every one that will do: weights, states of the rule, losses.

    The data have columns of zeros, which some of them leave out.
    """
    x, labels, _ = batch(41, 19, 5, dtype=dtype)
    x[:, 1::3] = 0

    least, options = FITS[name]

    def fitted(vocabulary):
        taken = []

        def choose(*arguments):
            taken.append(type(arguments[2]))
            return vocabulary()

        monkeypatch.setattr(engine, "vocabulary_for", choose)
        mlp = build([19, 33, 7, 5], dtype=dtype, **options)
        history = mlp.fit(x, labels, epochs=3, batch_size=8, seed=1)
        return set(taken), history.step_loss, state(mlp)

    zeros = set() if least is Plain else {type(smallest_with(least().words | ZEROS))}
    wanted = WANTED.get(dtype, {least, Whole} | zeros)
    runs = [fitted(each) for each in wider(least()) if each in wanted]
    for taken, losses, end in runs:
        assert taken == {least}
        assert losses == runs[0][1]
        assert_same_state(end, runs[0][2])


def test_by_hand_the_smallest_will_do(monkeypatch):
    """Also with a loss that it may lack, from the first step on or from a later one."""
    monkeypatch.setattr(engine, "vocabulary_for", lambda *arguments: arguments[2])
    x, labels, y = batch(8, 19, 5)

    def trained():
        mlp = build([19, 7, 5], momentum=0.9)
        for criterion, targets in (
            (SoftmaxCrossEntropy(), labels), (MeanSquaredError(), y), (MeanSquaredError(), 2 * y),
            (SoftmaxCrossEntropy(), labels),
        ):  # fmt: skip
            mlp.criterion = criterion
            mlp.forward(x)
            mlp.backward(targets)
            mlp.step()
        return state(mlp)

    found = trained()
    monkeypatch.setattr(_layer_path, "panels_for", lambda mlp, rows: None)
    assert_same_state(found, trained())


@pytest.fixture
def known(monkeypatch):
    """What code is there: (of this process, on disk), to be filled."""
    here, on_disk = set(), set()
    vocabulary_for.cache_clear()
    monkeypatch.setattr(compiled, "epochs_here", lambda: here)
    monkeypatch.setattr(compiled, "epochs_on_disk", lambda: on_disk)
    yield here, on_disk
    vocabulary_for.cache_clear()


def test_what_is_compiled_is_taken(known):
    here, on_disk = known
    assert type(vocabulary_for("float32", FLOATS, Plain())) is Plain
    vocabulary_for.cache_clear()
    on_disk.add(Epoch("float32", FloatUnit, Whole))
    assert type(vocabulary_for("float32", FLOATS, Plain())) is Whole
    assert type(vocabulary_for("float64", FLOATS, Plain())) is Plain
    assert type(vocabulary_for("float32", EmulatedUnit(), Plain())) is Plain
    vocabulary_for.cache_clear()
    here.add(Epoch("float32", FloatUnit, Apart))
    assert type(vocabulary_for("float32", FLOATS, Plain())) is Apart
    assert type(vocabulary_for("float32", FLOATS, Rare())) is Whole
    assert type(vocabulary_for("float32", FLOATS, Apart())) is Apart
    assert type(vocabulary_for("float32", FLOATS, Whole())) is Whole


def test_columns_of_zeros_are_left_out_where_that_takes_no_compiling_more(known):
    """By code that is there, or by code that is to be made anyhow; never by all that there is."""
    here, on_disk = known
    taken = {}
    for least in (Plain, Apart, Norms, NormsApart, Rare, Whole):
        taken[least] = type(vocabulary_for("float32", FLOATS, least(), zeros=True))
    with_zeros = {Plain: PlainZeros, Apart: ApartZeros, Norms: NormsZeros}
    assert taken == with_zeros | {NormsApart: NormsApartZeros, Rare: Rare, Whole: Whole}
    vocabulary_for.cache_clear()
    here.add(Epoch("float32", FloatUnit, Plain))
    assert type(vocabulary_for("float32", FLOATS, Plain(), zeros=True)) is Plain
    assert type(vocabulary_for("float32", FLOATS, Apart(), zeros=True)) is ApartZeros
    vocabulary_for.cache_clear()
    on_disk.add(Epoch("float32", FloatUnit, Whole))
    assert type(vocabulary_for("float32", FLOATS, Plain(), zeros=True)) is Whole
    assert type(vocabulary_for("float32", FLOATS, Plain())) is Plain


def test_never_less_than_is_needed(known):
    here, on_disk = known
    here.add(Epoch("float32", FloatUnit, Plain))
    on_disk.add(Epoch("float32", FloatUnit, Plain))
    assert type(vocabulary_for("float32", FLOATS, Apart())) is Apart
    assert not compiled.is_compiled("float32", FLOATS, Apart())
    assert compiled.is_compiled("float32", FLOATS, Plain())


def test_the_epoch_that_ran_is_among_those_compiled():
    x, labels, _ = batch(9, 5, 3, dtype=np.float32)
    build([5, 4, 3], dtype=np.float32).fit(x, labels)
    found = {epoch for epoch in compiled.epochs_here() if epoch.dtype == "float32"}
    assert any(epoch.unit is FloatUnit for epoch in found)
    assert {epoch.vocabulary for epoch in found} <= set(VOCABULARIES)


class Pair(NamedTuple):
    numbers: np.ndarray
    factor: float


class Outer(NamedTuple):
    pair: Pair
    mark: Plain
    count: int


@inline
def _scaled_by(outer, i):
    return outer.pair.numbers[i] * outer.pair.factor


@entry
def _total(outer):
    total, outer = 0.0, refer(outer)
    for i in range(outer.count):
        total += _scaled_by(outer, i)
    return total


def test_a_reference_reads_what_the_tuple_holds():
    numbers = np.arange(5.0)
    assert _total(Outer(Pair(numbers, 3.0), Plain(), 4)) == 3.0 * (0 + 1 + 2 + 3)


class Mixed(NamedTuple):
    """Of all kinds of fields, in an order that leaves gaps between them."""

    yes: bool
    small: np.float32
    pair: Pair
    no: bool
    square: np.ndarray
    count: int
    mark: Apart
    bytes: np.ndarray
    triple: tuple[int, int, int]
    end: float


@entry
def _look(mixed, out):
    out[0], out[1], out[2] = mixed.yes, mixed.small, mixed.pair.numbers[4]
    out[3], out[4] = mixed.pair.factor, mixed.no
    out[5], out[6], out[7] = mixed.square[1, 2], mixed.square.size, mixed.square.strides[0]
    out[8], out[9], out[10] = mixed.count, mixed.bytes[2], mixed.bytes.shape[0]
    out[11], out[12] = mixed.triple[2], mixed.end


def test_a_pinned_tuple_is_laid_out_as_numba_has_it():
    square = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    mixed = Mixed(
        True, np.float32(0.5), Pair(np.arange(5.0), 3.0), False, square[:, [0, 1, 1]], -7, Apart(),
        np.arange(9, dtype=np.uint8), (4, 5, 6), 2.25,
    )  # fmt: skip
    out = np.empty(13)
    _look(Pinned(mixed), out)
    last = mixed.square
    want = [1, 0.5, 4, 3, 0, last[1, 2], 9, last.strides[0], -7, 2, 9, 6, 2.25]
    assert_array_equal(out, want)


def test_fields_of_a_pinned_tuple_can_change():
    """Numbers, tuples and arrays, by name or in memory; nothing else does."""
    mixed = Mixed(
        True, np.float32(0.5), Pair(np.arange(5.0), 3.0), False, np.zeros((3, 3), np.float32), -7,
        Apart(), np.arange(9, dtype=np.uint8), (4, 5, 6), 2.25,
    )  # fmt: skip
    pinned, out = Pinned(mixed), np.empty(13)
    pinned.change(bytes=np.full(6, 3, np.uint8), pair=Pair(np.full(7, 0.25), 8.0), no=True)
    pinned.field("count")[...] = 12
    _look(pinned, out)
    assert_array_equal(out, [1, 0.5, 0.25, 8, 1, 0, 9, 12, 12, 3, 6, 6, 2.25])
    assert pinned.value.pair.factor == 8.0


def test_types_of_references_are_told_apart_by_what_they_refer_to():
    types = [numba.typeof(Outer(Pair(np.zeros(1, dtype), 3.0), Plain(), 4)) for dtype in "fd"]
    first, second = map(Reference, types)
    assert first == Reference(types[0])
    assert first != second
    assert len(str(first)) < 60


@inline_where(lambda arguments: isinstance(arguments[0].dtype, numba.types.Float))
def _fill(out, value):
    out[0] = value


@entry
def _filled(out, value):
    _fill(out, value)


def test_a_helper_with_a_condition_does_nothing_where_it_is_not_wanted():
    floats, integers = np.zeros(1), np.zeros(1, np.int64)
    _filled(floats, 3)
    _filled(integers, 3)
    assert_array_equal(floats, [3])
    assert_array_equal(integers, [0])


def test_a_vocabulary_is_asked_of_what_tells_one():
    @needs(APART)
    def nothing(number):
        pass

    with pytest.raises(TypeError, match="something that has a vocabulary"):
        nothing.stands_back((numba.types.int64,))
