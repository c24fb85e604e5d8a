"""What Numba makes of a helper: code for its callers to link, and nothing that runs by itself.

Numba optimises a function together with all that it calls; then every function that calls it, with
all of that once more; and makes machine code of each. A helper is only ever linked into kernels,
where everything is optimised together: of its own it needs neither, nor a copy of what it calls. So
compiling a first fit took 24 s instead of 42, and, once helpers were left unlinked, 10.2 instead of
11.8; the kernels are no slower.

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
    """A helper's own LLVM code, and where to find that of the helpers it calls."""

    @property
    def codegen(self) -> Any:
        return _Codegen(self._codegen)

    def _optimize_functions(self, module: Any) -> None:
        # What else Numba does here: the layout decides on what later steps may do.
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    def own_module(self) -> Any:
        """Its code, without that of the helpers it calls."""
        return super()._get_module_for_linking()

    def _get_module_for_linking(self) -> Any:
        raise TypeError("a function that calls helpers must be compiled with _jit.OPTIONS")

    def get_pointer_to_function(self, name: str) -> int:
        """0: there is none."""
        self._ensure_finalized()
        return 0


class EntryLibrary(JITCodeLibrary):
    """An entry point's machine code, with the code of all helpers that it reaches."""

    def finalize(self) -> None:
        every = _callers_first(self._linking_libraries)
        for library in every:
            if isinstance(library, HelperLibrary):
                self._final_module.link_in(library.own_module(), preserve=True)
        self._linking_libraries = [each for each in every if not isinstance(each, HelperLibrary)]
        super().finalize()

    def _optimize_final_module(self) -> None:
        # Once. Numba does it twice, to find pairs of reference counts in between.
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


def _callers_first(libraries: list[Any]) -> list[Any]:
    """These and all that their helpers call, each behind its callers.

    LLVM links a helper only where something that is linked already calls it.
    """
    done: dict[Any, None] = {}

    def visit(library: Any) -> None:
        if library not in done:
            if isinstance(library, HelperLibrary):
                for called in reversed(library._linking_libraries):
                    visit(called)
            done[library] = None

    for library in reversed(libraries):
        visit(library)
    return list(reversed(done))


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


class EntryCompiler(Compiler):
    """Numba's compiler, with an ``EntryLibrary`` for what it makes."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, *arguments: Any) -> None:
        super().__init__(typingctx, targetctx, library, *arguments)
        self.state.library = EntryLibrary(targetctx.codegen(), "entry")
        self.state.library.enable_object_caching()
