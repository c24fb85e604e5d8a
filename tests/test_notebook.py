"""A fit in the kernel of a notebook, interrupted as its stop button does, and gone on with."""

import asyncio
import threading
import time

import pytest

nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
nbformat = pytest.importorskip("nbformat", reason="notebooks are run by nbclient")
pytest.importorskip("ipykernel", reason="notebooks need a kernel")

BEGIN = """
import time
import numpy as np
from tests.resumes import STEPS, Interrupt, arguments, assert_same, network, outcome
KIND = "float32, batch norm"
network(KIND).fit(**arguments(KIND, epochs=1))
mlp = network(KIND)
print("ready")
"""
LONG = """
class Say:
    said = False
    def on_epoch_end(self, mlp, *event):
        if not self.said:
            print("begun", flush=True)
        self.said = True

try:
    mlp.fit(**arguments(KIND, [Say()], epochs=10**6))
finally:
    ended = time.time()
"""
LOOK = """
state = mlp.unfinished
assert state.epochs == 10**6
stopped = STEPS * state.epoch + state.step
assert len(mlp.history.step_loss) == stopped > 0
assert len(mlp.history.train_loss) in (state.epoch, state.epoch + 1)
assert np.isfinite(mlp.parameters).all()
print(ended)
"""
GO_ON = """
mlp.fit(**arguments(KIND, [Interrupt(stopped + 500)], epochs=10**6), resume=True)
"""
COMPARE = """
expected = network(KIND)
done = len(mlp.history.step_loss)
assert done >= stopped + 500
expected.fit(**arguments(KIND, epochs=10**6, max_steps=done))
for name in ("parameters", "velocities", "statistics"):
    np.testing.assert_array_equal(getattr(mlp, name), getattr(expected, name))
assert mlp.history.step_loss == expected.history.step_loss
print("the same bits")
"""


def text(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def test_a_kernel_is_interrupted_and_goes_on():
    cells = [nbformat.v4.new_code_cell(source) for source in (BEGIN, LONG, LOOK, GO_ON, COMPARE)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(notebook, timeout=120, allow_errors=True)
    begin, long, look, go_on, compare = range(5)
    with client.setup_kernel():
        client.execute_cell(cells[begin], begin)
        assert text(cells[begin]) == "ready\n", cells[begin].outputs
        pressed = []

        def stop():
            ends = time.monotonic() + 60
            while "begun" not in text(cells[long]) and time.monotonic() < ends:
                time.sleep(0.01)
            time.sleep(0.3)
            pressed.append(time.time())
            asyncio.run(client.km.interrupt_kernel())

        button = threading.Thread(target=stop)
        button.start()
        client.execute_cell(cells[long], long)
        button.join()
        (error,) = (o for o in cells[long].outputs if o.output_type == "error")
        assert error.ename == "KeyboardInterrupt"
        client.execute_cell(cells[look], look)
        assert cells[look].outputs[0].output_type == "stream", cells[look].outputs
        assert float(text(cells[look])) - pressed[0] < 0.5
        client.execute_cell(cells[go_on], go_on)
        client.execute_cell(cells[compare], compare)
        assert text(cells[compare]) == "the same bits\n", cells[compare].outputs
