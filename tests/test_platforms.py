"""The kernels on other processors than this one, and with Numba's poorest threading layer."""

import platform

import llvmlite.binding as llvm
import pytest

from tests.processes import output_of, run_python

# Processors that this one can stand in for: AVX2 with fused multiply-add; baseline x86-64 (SSE2,
# products and sums rounded apart). Name: (features needed here, bytes of a register, fused or not).
# The shape that vectors and tile have on arm64 runs here too (see ``tests/arm64.py``).
PROCESSORS = {"haswell": (("avx2", "fma"), 32, True), "x86-64": ((), 16, False)}

KERNEL_TESTS = [
    f"tests/test_{name}.py"
    for name in (
        "activation", "batchnorm", "kernels", "linear", "loss", "math", "math_smooth", "math_turns",
        "packing", "tile", "update",
    )
]  # fmt: skip
FIT_TESTS = [
    "tests/test_fit.py::test_fit_in_order_is_the_hand_written_loop",
    "tests/test_fit.py::test_labels_in_any_form_give_the_same_bits",
    "tests/test_present.py::test_fit_is_the_loop_by_hand_which_leaves_nothing_out",
]
BOUNDS_TESTS = ["tests/test_bounds.py::test_every_access_is_in_bounds"]
# Tests of kernels that name no dtype are those of float64, as most are; bfloat16's are float32's,
# but for those of bounds and of whole networks: the same code, which this processor's own tests
# run. Long double is wider than double here: what it shows, decimal arithmetic would show again.
OF = {
    "float32": (
        "not float64 and (float32 or bfloat16 and not (in_bounds or hand_written or labels_in))"
    ),
    "float64": "not (float32 or bfloat16 or decimal)",
}
FITS = {dtype: [*FIT_TESTS, "-k", f"{dtype} and ({chosen})"] for dtype, chosen in OF.items()}
# All in one process: training and inference share a compilation of the epoch that takes its time,
# and what runs within bounds finds it.
TESTS = {
    dtype: ["-p", "tests.whole", *KERNEL_TESTS, *FIT_TESTS, *BOUNDS_TESTS, "-k", chosen]
    for dtype, chosen in OF.items()
}
# Always run: eight numbers in a register with fused products, and two without.
EXTREMES = {("haswell", "float32"), ("x86-64", "float64")}


def _cases():
    for name in PROCESSORS:
        for dtype, arguments in TESTS.items():
            marks = [] if (name, dtype) in EXTREMES else [pytest.mark.long]
            yield pytest.param(name, arguments, id=f"{name}-{dtype}", marks=marks)


PROBE = """
import re
import numpy as np
from fastmlp.kernels._host import lanes
from tests.numerics import compiled
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma

@compiled
def square(y, x):
    store(y, 0, fma(load(x, 0), load(x, 0), load(y, 0)))

square(np.ones(64, np.float32), np.ones(64, np.float32))
(assembly,) = square.inspect_asm().values()
print(4 * lanes(4), bool(re.search("vfn?m(add|sub)", assembly)), "zmm" in assembly)
"""


def _environment(pytestconfig, name, shape=""):
    """Variables with which Numba compiles for a processor and keeps the code from run to run."""
    # Without the features Numba would compile for that name, but with all that this machine has.
    return {
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(pytestconfig.cache.mkdir(f"kernels_{name}{shape}")),
    }


def _run_tests(environment, *arguments):
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    process = run_python(*command, timeout=580, **environment)
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr
    assert " passed" in process.stdout


@pytest.fixture(params=PROCESSORS)
def processor(request, pytestconfig):
    """(name, environment in which Numba compiles for it)."""
    needed, _, _ = PROCESSORS[request.param]
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{platform.machine()} cannot run code of {request.param}")
    if not all(llvm.get_host_cpu_features().get(feature) for feature in needed):
        pytest.skip(f"this processor cannot run code of {request.param}")
    return request.param, _environment(pytestconfig, request.param)


def test_the_environment_selects_the_processor(processor):
    name, environment = processor
    _, register, fused = PROCESSORS[name]
    assert output_of("-c", PROBE, **environment).split() == [str(register), str(fused), "False"]


@pytest.mark.parametrize(("processor", "tests"), list(_cases()), indirect=["processor"])
def test_kernels_elsewhere(processor, tests):
    """Bounds count roundings, so they hold unfused too; so do the 2 ULP of exp and its kin."""
    _, environment = processor
    _run_tests(environment, *tests)


@pytest.mark.long
@pytest.mark.parametrize("dtype", TESTS)
def test_smaller_epochs_elsewhere(processor, dtype, pytestconfig):
    """With a folder of their own, where no epoch is that knows more than is needed."""
    environment = _environment(pytestconfig, processor[0], "_smaller")
    _run_tests(environment, *FITS[dtype])


@pytest.fixture
def plain(pytestconfig):
    """(environment of plain x86-64, another for its code in the shape of arm64)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{platform.machine()} cannot run code of x86-64")
    return [_environment(pytestconfig, "x86-64", shape) for shape in ("", "_as_arm64")]


@pytest.mark.parametrize(
    "tests",
    [
        pytest.param(["tests/test_tile.py"], id="tile"),
        pytest.param(KERNEL_TESTS, id="kernels", marks=pytest.mark.long),
        pytest.param(FITS["float32"], id="fit", marks=pytest.mark.long),
    ],
)
def test_kernels_in_the_shape_of_arm64(plain, tests):
    """Vectors of two registers of 128 bits, and a factor taken by lane."""
    _run_tests(plain[1], "-p", "tests.arm64", *tests)


BITS = """
import hashlib, sys
if sys.argv[2:]:
    from tests import arm64
    arm64.take_its_shape()
import numpy as np
from fastmlp.kernels._host import lanes, tile_rows
from tests.test_linear import SHAPES, backward, forward, operands

digest = hashlib.sha256()
for shape in SHAPES:
    x, w, b, dz = operands(*shape, np.dtype(sys.argv[1]))
    for result in (forward(x, w, b), *backward(x, w, dz)):
        digest.update(result.tobytes())
print(lanes(4), tile_rows(8), digest.hexdigest())
"""


# Plain x86-64 has code for float64 already.
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.long)])
def test_the_shape_changes_no_bit(plain, dtype):
    """All three products; sums run in one order wherever a tile begins."""
    here = output_of("-c", BITS, dtype, **plain[0]).split()
    there = output_of("-c", BITS, dtype, "as arm64", **plain[1]).split()
    assert (here[:2], there[:2]) == (["4", "2"], ["8", "4"])
    assert here[2] == there[2]


WORKQUEUE = """
from concurrent.futures import ThreadPoolExecutor
from numba import config
from tests.networks import assert_same_state
from tests.test_threads import fitted

assert config.THREADING_LAYER == "workqueue"
expected = [fitted(seed) for seed in range(6)]
with ThreadPoolExecutor(2) as pool:
    for actual, value in zip(pool.map(fitted, range(6)), expected, strict=True):
        assert_same_state(actual, value)
print("equal")
"""


def test_two_callers_on_the_workqueue_layer():
    """That layer aborts when two threads enter it; the library's own threads never do."""
    assert output_of("-c", WORKQUEUE, NUMBA_THREADING_LAYER="workqueue") == "equal\n"
