"""The programs of ``examples/`` as modules."""

import importlib.util

from tests.processes import ROOT

FOLDER = ROOT / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
