"""How far exp, sigmoid and tanh are from the correctly rounded value, for every float32 there is.

    python -m benchmarks.ulp [exp] [sigmoid] [tanh]

Prints the worst error in units in the last place and where it occurs. The truth is NumPy's float64
result, rounded: 29 bits more than float32 keeps. Takes about two minutes a function; in the tests a
sample stands in for it.
"""

import argparse
import time

import numpy as np

from fastmlp.kernels import _math
from tests.numerics import elementwise, ulps

BLOCK = 1 << 24


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    "exp": (elementwise(_math.exp), np.exp),
    "sigmoid": (elementwise(_math.sigmoid), _sigmoid),
    "tanh": (elementwise(_math.tanh), np.tanh),
}


def worst_error(function, truth):
    """(largest error in ULP, the argument it occurs at) over all finite float32.

    Raises AssertionError unless NaN gives NaN and the infinities give their limits.
    """
    worst, where = -1, None
    for start in range(0, 1 << 32, BLOCK):
        x = np.arange(start, start + BLOCK, dtype=np.uint32).view(np.float32)
        y = function(x)
        with np.errstate(all="ignore"):
            exact = truth(x.astype(np.float64))
        nan = np.isnan(x)
        assert np.array_equal(nan, np.isnan(y)), "NaN in must be NaN out, and only there"
        errors = np.where(nan, 0, ulps(y, exact))
        at = int(errors.argmax())
        if errors[at] > worst:
            worst, where = int(errors[at]), x[at]
    return worst, where


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help="exp, sigmoid, tanh")
    for name in parser.parse_args().functions or FUNCTIONS:
        if name not in FUNCTIONS:
            parser.error(f"function must be one of {', '.join(FUNCTIONS)}, got {name}")
        started = time.perf_counter()
        worst, where = worst_error(*FUNCTIONS[name])
        seconds = time.perf_counter() - started
        print(f"{name}: at most {worst} ULP, at {where!r}; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
