"""What is decided by measuring, and the memory that is measured in."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import engine
from fastmlp._layout import LayerSpec, Layout
from fastmlp.engine import faster_compute_dtype
from fastmlp.kernels import _host, _rates
from fastmlp.kernels._units import FLOATS
from fastmlp.kernels.activation import NO_ACTIVATION

SECONDS = {
    # The fastest trial of either counts, not the last one, nor the slowest.
    "bfloat16": {"float32": [1, 9, 9, 9], "bfloat16": [20, 0.9, 20, 20]},
    "float32": {"float32": [20, 1, 20, 20], "bfloat16": [1.5, 1.5, 1.5, 1.5]},
    # A gain of less than the noise of such a measurement is none.
    "float32, hardly slower": {"float32": [1, 1, 1, 1], "bfloat16": [0.98, 0.98, 0.98, 0.98]},
}


@pytest.mark.parametrize("expected", SECONDS)
def test_the_compute_dtype_of_the_fastest_trial_is_chosen(expected, monkeypatch):
    class Trial:
        def __init__(self, layout, batch_size, compute_dtype):
            self.times = iter([1.0, 1.0, *SECONDS[expected][compute_dtype]])

        def seconds(self, steps):
            return next(self.times)

    monkeypatch.setattr(engine, "_Trial", Trial)
    monkeypatch.setattr(engine, "TRIALS", 4)
    layout = Layout([LayerSpec(3, 5, NO_ACTIVATION, True, False)], np.float32)
    assert faster_compute_dtype.__wrapped__(layout, 7) == expected.partition(",")[0]


def test_a_burst_takes_some_time():
    seconds = _rates.seconds_of_burst(FLOATS, np.float32, 1, 10, 2)
    assert 0 < seconds < np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first", [3, _host.WHOLE_BYTES])
def test_arrays_are_apart_and_start_on_cache_lines(first, dtype):
    """In one allocation or in several: writing to one leaves the others as they are."""
    sizes = [first, 0, 17, 1]
    arrays = _host.aligned_arrays(sizes, dtype, np.zeros)
    assert [array.size for array in arrays] == sizes
    for number, array in enumerate(arrays, 1):
        assert array.dtype == dtype
        assert array.size == 0 or array.ctypes.data % 64 == 0
        array[:] = number
    for number, array in enumerate(arrays, 1):
        assert_array_equal(array, number)
