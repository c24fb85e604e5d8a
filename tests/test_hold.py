"""Numbers in a smaller form: which are, by NumPy, and that a single one that is not is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastmlp.kernels.held import PIECE, hold

FLOAT = {np.float32: np.uint32, np.float64: np.uint64}


def as_read(x, dtype):
    """The bits of numbers, of any form, as a network of a dtype reads them."""
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = x.astype(dtype)
    return (numbers / dtype(255) if x.dtype == np.uint8 else numbers).view(FLOAT[dtype])


def fits(x, form, dtype):
    """By NumPy: whether there are numbers of a form that a network reads to the bits of x."""
    wanted = as_read(x, dtype)
    if form == np.uint8:
        return bool(np.isin(wanted, as_read(np.arange(256, dtype=np.uint8), dtype)).all())
    with np.errstate(over="ignore", invalid="ignore"):
        smaller = x.astype(np.float32)
    return bool(np.isfinite(smaller).all() and (as_read(smaller, dtype) == wanted).all())


@pytest.mark.parametrize(
    ("x_dtype", "dtype", "count"),
    [(np.float64, np.float64, 256), (np.float32, np.float32, 256), (np.float64, np.float32, 256),
     (np.float32, np.float64, 2)],
)  # fmt: skip
def test_which_bytes_are_read_to_the_same_bits(x_dtype, dtype, count):
    """All of them, but for quotients in float32 that a float64 network reads: 0 and 1 alone."""
    every = np.arange(256, dtype=np.uint8)
    x = every.astype(x_dtype) / x_dtype(255)
    found = np.zeros(1, np.uint8)
    fitting = [k for k in range(256) if hold(found, x[k : k + 1], dtype) and found[0] == k]
    assert_array_equal(as_read(every, dtype) == as_read(x, dtype), np.isin(every, fitting))
    assert len(fitting) == count


BAD = {
    "an ulp above": lambda v: np.nextafter(v, v.dtype.type(2)),
    "an ulp below": lambda v: np.nextafter(v, v.dtype.type(-2)),
    "-0": lambda v: v.dtype.type(-0.0), "NaN": lambda v: v.dtype.type(np.nan),
    "infinity": lambda v: v.dtype.type(np.inf), "-infinity": lambda v: v.dtype.type(-np.inf),
    "256 / 255": lambda v: v.dtype.type(256) / v.dtype.type(255),
    "-1 / 255": lambda v: v.dtype.type(-1) / v.dtype.type(255),
    "a half": lambda v: v.dtype.type(0.5), "huge": lambda v: np.finfo(v.dtype).max,
}  # fmt: skip


@pytest.mark.usefixtures("on_threads")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_single_number_that_is_no_pixel_is_seen_wherever_it_is(bad, dtype):
    size = 3 * PIECE + 17
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    x = pixels.astype(dtype) / dtype(255)
    held = np.empty(size, np.uint8)
    assert hold(held, x, dtype)
    assert_array_equal(held, pixels)
    for place in (0, 1, PIECE - 1, PIECE, 2 * PIECE + 5, size - 2, size - 1):
        x[place], before = bad(x[place]), x[place]
        assert not hold(held, x, dtype), place
        x[place] = before


@pytest.mark.usefixtures("on_threads")
@pytest.mark.parametrize("bad", [1 + 2.0**-30, 1e39, np.inf, -np.inf, np.nan, 5e-324])
def test_a_single_number_that_is_not_float32_is_seen_wherever_it_is(bad):
    """Signed zeros, the least and the largest are."""
    size = 3 * PIECE + 17
    numbers = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    numbers[:4] = -0.0, np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal, 0
    x, held = numbers.astype(np.float64), np.empty(size, np.float32)
    assert hold(held, x, np.float64)
    assert_array_equal(held.view(np.uint32), numbers.view(np.uint32))
    for place in (0, PIECE - 1, PIECE, size - 1):
        x[place], before = bad, x[place]
        assert not hold(held, x, np.float64), place
        # What a float32 network rounds is rounded ahead; what it reads as infinite is left.
        assert hold(held, x, np.float32) == (abs(bad) < 1e38), place
        x[place] = before


numbers = st.one_of(
    st.integers(0, 255).map(lambda k: k / 255),
    st.integers(0, 255).map(lambda k: float(np.float32(k) / np.float32(255))),
    st.floats(width=32), st.floats(), st.sampled_from([-0.0, 1.0, np.nextafter(1, 0)]),
)  # fmt: skip


@pytest.mark.parametrize("form", [np.uint8, np.float32])
@settings(deadline=None, max_examples=300)
@given(
    values=st.one_of(
        st.lists(numbers, max_size=4), st.lists(st.integers(0, 255).map(lambda k: k / 255))
    ),
    x_dtype=st.sampled_from([np.float32, np.float64]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_it_says_so_exactly_where_every_bit_is_read_again(form, values, x_dtype, dtype):
    with np.errstate(over="ignore"):
        x = np.array(values, float).astype(x_dtype)
    held = np.empty(x.size, form)
    assert hold(held, x, dtype) == fits(x, form, dtype)
    if fits(x, form, dtype):
        assert_array_equal(as_read(held, dtype), as_read(x, dtype))
