"""arm64 without an arm64: its machine code, and the kernels in the shape they have there.

``python -m pytest -p tests.arm64`` runs tests in that shape: vectors of two registers of 128 bits.
"""

import re

import llvmlite.binding as llvm

from fastmlp.kernels import _host


def take_its_shape():
    """Let the kernels of this process have arm64's registers; none may have been compiled yet."""
    assert _host.lanes.cache_info().currsize == 0
    _host.vector_registers = lambda: _host.ARM64


def pytest_configure(config):
    take_its_shape()


def assembly(code, **machine):
    """The machine code for aarch64 of LLVM code that was made for this processor.

    machine : ``cpu`` and ``features``, as LLVM names them
    """
    module = llvm.parse_assembly(
        re.sub(r"#\d+|^(attributes|target) .*", "", code, flags=re.MULTILINE)
    )
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    return target.create_target_machine(**machine).emit_assembly(module)
