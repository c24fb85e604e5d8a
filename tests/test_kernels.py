"""What every public kernel owes, whichever it is: the table of cases says how to call it."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from benchmarks.cases import KERNELS

# (batch, width): 1, around a vector and a tile, primes, long and thin, and batches that are cut
# into chunks (above 256 rows).
SHAPES = [
    (1, 1), (1, 17), (2, 1), (7, 3), (8, 48), (9, 16), (15, 47), (16, 15), (17, 49), (33, 97),
    (1, 600), (600, 1), (255, 2), (256, 5), (257, 17), (600, 7),
]  # fmt: skip

every_kernel = pytest.mark.parametrize("case", KERNELS.values(), ids=KERNELS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def in_float64(arguments):
    # Outputs hold whatever was in memory, signalling NaN perhaps.
    with np.errstate(invalid="ignore"):
        return tuple(
            a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a
            for a in arguments
        )


def float_arrays(arguments):
    arrays = [(k, a) for k, a in enumerate(arguments) if isinstance(a, np.ndarray) and a.size]
    return [k for k, a in arrays if a.dtype.kind == "f"]


@every_kernel
@both_dtypes
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_against_numpy(case, dtype, batch, width):
    """The reference computes in float64. Inputs that are no outputs stay as they are.

    The outputs are sums of at most batch or width terms of magnitude about 1 and a few operations
    on them; each file of tests has the sharper bound of its kernel.
    """
    arguments = case.arguments(batch, width, dtype)
    before = copy.deepcopy(arguments)
    expected = case.reference(*in_float64(arguments))
    case.kernel(*arguments)
    terms = max(batch, width) + 16
    for actual, value in zip(case.results(arguments), expected, strict=True):
        assert actual.dtype == (case.form or dtype)
        tolerance = terms * np.finfo(dtype).eps * max(1, np.abs(value).max())
        np.testing.assert_allclose(actual, value.reshape(actual.shape), rtol=0, atol=tolerance)
    for position, (actual, value) in enumerate(zip(arguments, before, strict=True)):
        if position not in case.outputs and isinstance(actual, np.ndarray):
            assert_array_equal(actual, value)


@every_kernel
@both_dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_and_infinities_as_numpy(case, dtype, value):
    """One such entry in one array at a time: NaN and infinities come out where NumPy has them."""
    if case.kernel.__name__ == "batchnorm_backward" and np.isinf(value):
        pytest.skip("the reference starts from x, which an infinite norm or var does not determine")
    if case is KERNELS["loss_backward-PoissonNLL"] and value == np.inf:
        pytest.skip("its rate ends as a straight line, of a finite slope")
    count = len(float_arrays(case.arguments(19, 17, dtype)))
    for chosen in range(count):
        arguments = case.arguments(19, 17, dtype)
        poisoned = arguments[float_arrays(arguments)[chosen]]
        poisoned.reshape(-1)[poisoned.size // 2] = value
        with np.errstate(all="ignore"):
            expected = case.reference(*in_float64(arguments))
        case.kernel(*arguments)
        for actual, wanted in zip(case.results(arguments), expected, strict=True):
            actual = actual.reshape(wanted.shape)
            assert_array_equal(np.isnan(actual), np.isnan(wanted))
            infinite = np.isinf(wanted)
            assert_array_equal(np.isinf(actual), infinite)
            assert_array_equal(actual[infinite], wanted[infinite])


@every_kernel
@both_dtypes
@pytest.mark.usefixtures("forced_threads")
def test_bits_do_not_depend_on_threads(case, dtype):
    results = []
    for count in (1, 2, 3):
        fastmlp.set_num_threads(count)
        arguments = case.arguments(300, 50, dtype)
        case.kernel(*arguments)
        results.append(case.results(arguments))
    for others in results[1:]:
        for actual, expected in zip(others, results[0], strict=True):
            assert_array_equal(actual, expected)
