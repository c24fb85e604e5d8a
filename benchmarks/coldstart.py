"""``python -m benchmarks.coldstart``: what is compiled, how long it takes, what is kept on disk.

Everything runs in fresh processes with a cache of their own in a temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_IMPORT = """
import json, time
started = time.perf_counter()
import numpy
numpy_done = time.perf_counter()
import numba
numba_done = time.perf_counter()
from fastmlp import MLP  # The package itself imports its modules when they are used.
print(json.dumps({
    "numpy": numpy_done - started,
    "numba": numba_done - numpy_done,
    "fastmlp": time.perf_counter() - numba_done,
}))
"""

# Every use of the library in turn; each needs kernels that those before it did not.
_START = """
import json, time
import numpy as np
import numba.core.event as event
from fastmlp import MLP, BatchNorm, Identity, ReLU, SoftmaxCrossEntropy

class Compilations(event.Listener):
    def __init__(self):
        self.depth, self.found = 0, []
    def on_start(self, event):
        self.depth += 1
        if self.depth == 1:
            self.started = time.perf_counter()
    def on_end(self, event):
        self.depth -= 1
        function = event.data["dispatcher"].py_func
        if self.depth == 0:
            module = function.__module__.removeprefix("fastmlp.kernels.")
            name = f"{module}.{function.__qualname__}"
            self.found.append((name, time.perf_counter() - self.started))

class FirstSteps:
    def on_progress(self, progress):
        if "first_step" not in results:
            results["first_step"] = time.perf_counter() - started

compilations = Compilations()
event.register("numba:compile", compilations)
results, uses = {}, {}
rng = np.random.default_rng(0)
mlp = MLP(
    784, 10, [64, 32], [ReLU(), ReLU(), Identity()],
    lambda a, b: (rng.standard_normal((a, b)) / a**0.5).astype(DTYPE), lambda d: np.zeros((1, d)),
    SoftmaxCrossEntropy(), lr=0.01, num_bn_layers=1,
)
x, labels = rng.standard_normal((256, 784)).astype(DTYPE), rng.integers(0, 10, 256)

def by_hand():
    mlp.forward(x)
    mlp.backward(labels)
    mlp.step()
    mlp.eval()
    mlp.forward(x)

for use, function in {
    "fit": lambda: mlp.fit(x, labels, batch_size=64, callbacks=[FirstSteps()]),
    "evaluate": lambda: mlp.evaluate(x, labels),
    "predict_proba": lambda: mlp.predict_proba(x),
    "predict one row": lambda: mlp.predict(x[:1]),
    "forward, backward, step": by_hand,
}.items():
    started = time.perf_counter()
    function()
    uses[use] = time.perf_counter() - started
print(json.dumps(results | {"uses": uses, "compiled": compilations.found}))
"""


@contextlib.contextmanager
def empty_cache() -> Iterator[Path]:
    """A folder for compiled code that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run_fresh(code: str, cache: Path | None = None) -> Any:
    """What a fresh process that runs the code prints, decoded from JSON."""
    environment = dict(os.environ)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    # A script's own folder comes first on its path; -P leaves out the current one, where an
    # uninstalled fastmlp would be found: say where this process has it from instead.
    import fastmlp

    home = str(Path(fastmlp.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [home, environment.get("PYTHONPATH", "")])
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"a fresh process failed:\n{done.stderr}")
    return json.loads(done.stdout)


def import_seconds(times: int = 3) -> dict[str, float]:
    """Least seconds of importing numpy, numba and fastmlp, each beyond those before it."""
    runs = [run_fresh(_IMPORT) for _ in range(times)]
    return {name: min(run[name] for run in runs) for name in runs[0]}


def start(cache: Path | None = None, dtype: str = "float32") -> dict[str, Any]:
    """A first training and all other uses, in a fresh process; by default with the usual cache.

    Returns "first_step": seconds from calling ``fit`` to the end of its first steps; "uses":
    seconds of each use; "compiled": (function, seconds) of all that was not found in the cache.
    """
    result: dict[str, Any] = run_fresh(f"DTYPE = {dtype!r}\n{_START}", cache)
    return result


def cache_size(cache: Path) -> tuple[int, int]:
    """(files, bytes)."""
    sizes = [path.stat().st_size for path in cache.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    imports = import_seconds()
    console.print(
        f"import: numpy {imports['numpy']:.2f} s, numba {imports['numba']:.2f} s more, "
        f"fastmlp {imports['fastmlp']:.2f} s more",
        highlight=False,
    )
    for dtype in ("float32", "float64"):
        with empty_cache() as cache:
            cold, warm = start(cache, dtype), start(cache, dtype)
            files, size = cache_size(cache)
        compiled = Table(title=f"Compiled for {dtype}")
        compiled.add_column("function")
        compiled.add_column("seconds", justify="right")
        for name, seconds in sorted(cold["compiled"], key=lambda found: -found[1]):
            compiled.add_row(name, f"{seconds:.2f}")
        compiled.add_section()
        compiled.add_row("all", f"{sum(seconds for _, seconds in cold['compiled']):.2f}")
        console.print(compiled)
        uses = Table(title=f"First use, {dtype}: seconds in a fresh process")
        for heading in ("", "cold", "warm"):
            uses.add_column(heading, justify="left" if not heading else "right")
        uses.add_row(
            "fit, to the first steps", _figure(cold["first_step"]), _figure(warm["first_step"])
        )
        for use, seconds in cold["uses"].items():
            uses.add_row(use, _figure(seconds), _figure(warm["uses"][use]))
        console.print(uses)
        console.print(
            f"{files} files, {size / 1e6:.1f} MB on disk; compiled again in the second process: "
            f"{len(warm['compiled'])} functions",
            highlight=False,
        )


def _figure(seconds: float) -> str:
    return f"{seconds:.3f}"


if __name__ == "__main__":
    main()
