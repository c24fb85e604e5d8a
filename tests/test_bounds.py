"""No kernel touches memory outside its operands, nor writes to its inputs.

Operands lie directly before, then directly behind, an inaccessible page; inputs are
write-protected, and so are the order, the classes and the rates of an epoch. Buffers of the
library's own end at such a page too, and start out as NaN. Each test runs in a process of its own,
which prints what it is about to do: the last line names the culprit.
"""

import sys

import pytest

from tests.processes import run_python

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="protecting pages takes mprotect, which Windows does not have"
)

KERNELS = """
import sys
import numpy as np
from benchmarks.cases import KERNELS
from tests.guarded import guard_buffers, guarded

guard_buffers()
dtype = np.dtype(sys.argv[1])
for shape in {shapes}:
    for name, case in KERNELS.items():
        expected = case.arguments(*shape, dtype)
        operands = case.arguments(*shape, dtype)
        case.kernel(*expected)
        for at_end in (True, False):
            print(name, shape, "end" if at_end else "start", flush=True)
            arguments = tuple(
                guarded(a, at_end=at_end, writable=position in case.outputs)
                if isinstance(a, np.ndarray) else a
                for position, a in enumerate(operands)
            )
            case.kernel(*arguments)
            for actual, value in zip(case.results(arguments), case.results(expected)):
                np.testing.assert_array_equal(actual, value)
"""

LINEAR = """
import sys
import numpy as np
from fastmlp.kernels._rates import unit_for
from fastmlp.kernels.linear import linear_backward, linear_forward
from tests.guarded import guard_buffers, guarded

guard_buffers()
compute = sys.argv[1]
dtype = np.dtype("float32" if compute == "bfloat16" else compute)
unit = unit_for(compute)
rng = np.random.default_rng(0)
for rows, inputs, outputs in {shapes}:
    x, w, b, dz = (
        guarded(rng.standard_normal(shape).astype(dtype), writable=False)
        for shape in ((rows, inputs), (inputs, outputs), (1, outputs), (rows, outputs))
    )
    for bias in (b, None):
        print("forward", rows, inputs, outputs, flush=True)
        y = guarded(np.full((rows, outputs), np.nan, dtype))
        linear_forward(y, x, w, bias, unit=unit)
        assert np.isfinite(y).all()
    for needed in (True, False):
        print("backward", rows, inputs, outputs, flush=True)
        dw, db, dx = (guarded(np.full_like(a, np.nan)) for a in (w, b, x))
        linear_backward(dw, db if needed else None, dx if needed else None, x, w, dz, unit)
        assert np.isfinite(dw).all()
        assert not needed or (np.isfinite(db).all() and np.isfinite(dx).all())
"""

ENGINE = """
import math
import sys
import numpy as np
from tests.guarded import guard_buffers, guarded
from tests.networks import build, state
from tests.whole import take_the_whole
from fastmlp import Activation, Identity, ReLU, SiLU, engine, threads
from fastmlp.kernels._reference import Pinned
from fastmlp.kernels.network import Data

def slope(z):
    return 1 / (1 + z * z)

def arctan():
    return Activation.of(math.atan, slope)

def run(function, wanted, arguments, run_threads=threads.run):
    if function is engine.train_steps:
        assert any(isinstance(a, Pinned) and isinstance(a.value, Data) for a in arguments)
        arguments = tuple(place(a) if isinstance(a, np.ndarray) else a for a in arguments)
        for a in arguments:
            if isinstance(a, Pinned) and isinstance(a.value, Data):
                names = "order", "classes", "weights", "class_weights", "scales"
                a.change(**{name: place(getattr(a.value, name)) for name in names})
    return run_threads(function, wanted, arguments)

threads.run = run
guard_buffers()
take_the_whole()
compute = sys.argv[1]
dtype = np.dtype("float32" if compute == "bfloat16" else compute)
rng = np.random.default_rng(0)
for sizes, rows, batch_size, norms in [
    ([1, 2], 1, 1, 0), ([1, 1, 2], 3, 2, 1), ([7, 5, 3], 5, 2, 1), ([16, 48, 16], 9, 8, 2),
    ([17, 49, 15], 10, 7, 1), ([15, 97, 47, 33], 19, 16, 2), ([33, 17, 2], 11, 16, 0),
    ([5, 17, 3], 600, 257, 1), ([17, 3], 601, 300, 0),
]:
    pixels = rng.integers(0, 256, (rows, sizes[0]), dtype=np.uint8)
    if rows > 9:
        # Lists of the other columns are read.
        pixels[:, 1::2] = 0
    classes = rng.integers(0, sizes[-1], rows)
    soft = rng.random((rows, sizes[-1]))
    for x in (pixels, pixels.astype(np.float32), pixels.astype(np.float64)):
        for labels in (classes, soft.astype(x.dtype if x.dtype != np.uint8 else dtype)):
            results = []
            for place in (lambda a: a, lambda a: guarded(a, writable=False),
                          lambda a: guarded(a, at_end=False, writable=False)):
                print(sizes, rows, batch_size, x.dtype, labels.dtype, labels.ndim, flush=True)
                activations = [SiLU, arctan, ReLU][: len(sizes) - 2] + [Identity]
                mlp = build(sizes, activations, dtype=dtype, num_bn_layers=norms, momentum=0.9,
                            lr=1e-3, compute_dtype=compute)
                here, truth = place(x), place(labels)
                mlp.fit(here, truth, epochs=1, batch_size=batch_size, seed=0)
                results.append([
                    *state(mlp).values(), mlp.evaluate(here, truth), mlp.predict_proba(here),
                    mlp.predict_proba(here[:1]), mlp.predict_proba(here[-1:]),
                    mlp.predict_proba(here[::-1]),
                ])
            for others in results[1:]:
                for actual, expected in zip(others, results[0], strict=True):
                    np.testing.assert_array_equal(actual, expected)
                    assert np.isfinite(actual).all()
"""

EDGES = [(1, 1), (2, 3), (7, 15), (8, 16), (9, 17), (3, 47), (17, 48), (5, 49), (2, 97),
         (256, 5), (257, 17), (600, 1)]  # fmt: skip
SHAPES = [
    (1, 1, 1), (1, 1, 17), (1, 17, 1), (17, 1, 1), (7, 8, 9), (8, 16, 48), (9, 17, 49),
    (3, 15, 47), (5, 33, 31), (2, 97, 3), (256, 3, 16), (257, 16, 3), (600, 5, 33),
]  # fmt: skip

PROGRAMS = {
    "every kernel": KERNELS.format(shapes=EDGES),
    "linear": LINEAR.format(shapes=SHAPES),
    "engine": ENGINE,
}
CASES = [
    (name, dtype)
    for name in PROGRAMS
    for dtype in ("float32", "float64", "bfloat16")
    if (name, dtype) != ("every kernel", "bfloat16")
]


@pytest.mark.parametrize(("program", "dtype"), CASES)
def test_every_access_is_in_bounds(program, dtype):
    process = run_python("-c", PROGRAMS[program], dtype)
    last = process.stdout.splitlines()[-1:]
    assert process.returncode == 0, f"exit status {process.returncode} at {last}\n{process.stderr}"


TRESPASSES = {
    "reads behind": ("guarded(np.ones(5))", "ctypes.string_at(a.ctypes.data + 40, 1)"),
    "reads before": (
        "guarded(np.ones(5), at_end=False)", "ctypes.string_at(a.ctypes.data - 1, 1)"
    ),
    "writes to an input": (
        "guarded(np.ones(5), writable=False)", "ctypes.memset(a.ctypes.data, 0, 8)"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("array", "access"), TRESPASSES.values(), ids=TRESPASSES)
def test_the_guard_sees_a_trespass(array, access):
    process = run_python(
        "-c",
        f"""
import ctypes
import numpy as np
from tests.guarded import guarded
a = {array}
assert ctypes.string_at(a.ctypes.data, 40) == np.ones(5).tobytes()
print("ready", flush=True)
{access}
print("went unseen")
""",
    )
    assert process.stdout == "ready\n", process.stderr
    assert process.returncode < 0
