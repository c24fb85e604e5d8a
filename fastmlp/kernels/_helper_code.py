"""What Numba makes of a helper: code for its callers to link, and nothing that runs by itself.

Numba optimises a function together with all that it calls; then every function that calls it, with
all of that once more; and makes machine code of each. A helper is only ever linked into kernels,
where everything is optimised together: of its own it needs neither. So compiling a first fit takes
24 s instead of 42, and the kernels are no slower.

Nor does a helper need all that Numba looks for in a function: loops to lift out, closures,
comprehensions, generators, expressions on whole arrays.
"""

from __future__ import annotations

from typing import Any

from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import PassManager

_PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    # The length of a tuple is a constant, by which branches are chosen.
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,
    untyped_passes.GenericRewrites,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)


class _Codegen:
    """A library's code generator that leaves ``set_env`` out: it writes into a variable
    of the machine code, and a helper has none."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        pass


class HelperLibrary(JITCodeLibrary):
    """A helper's LLVM code and that of the helpers it calls."""

    @property
    def codegen(self) -> Any:
        return _Codegen(self._codegen)

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: there is none."""
        self._ensure_finalized()
        return 0


class HelperCompiler(Compiler):
    """Numba's compiler, with a ``HelperLibrary`` for what it makes."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *arguments: Any) -> None:
        super().__init__(typingctx, targetctx, library, *arguments)
        self.state.library = HelperLibrary(targetctx.codegen(), "helper")

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("helper")
        for each in _PASSES:
            manager.add_pass(each, each.__name__)
        manager.finalize()
        return [manager]
