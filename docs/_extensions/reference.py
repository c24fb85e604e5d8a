"""A page of reference for every public module, made from what the package has.

What stands at the top of fastmlp without an underscore is public, and so is every name in it
without one: those of ``__all__``, or those that the module defines. A name has its text on the
page of one module; others that have it too refer to that.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import types

import made
from sphinx.util.inspect import signature as sphinx_signature
from sphinx.util.inspect import stringify_signature

import fastmlp
from fastmlp.validation import NearestNames

# What most programs use, in the order of the list; all other modules follow by name.
FIRST = [
    "layers", "optimizers", "schedules", "initializers", "callbacks", "history", "datasets",
    "estimators", "sweeps", "checkpoint", "plotting", "threads", "warmup", "recipes",
]  # fmt: skip
# Its one name has its text on the page of fastmlp itself.
WITHOUT_PAGE = ["mlp"]
# Bases that tell a reader nothing.
UNSAID = {object, NearestNames}
SHORT = 60


def setup(app):
    app.connect("builder-inited", _write)
    app.connect("autodoc-process-bases", _public_bases)
    app.connect("autodoc-skip-member", _skip_made_by_others)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}


@functools.cache
def modules():
    """The names of the public modules that have a page, fastmlp itself first."""
    found = [info.name for info in pkgutil.iter_modules(fastmlp.__path__)]
    public = [name for name in found if name[0] != "_" and name not in WITHOUT_PAGE]
    return "fastmlp", *(f"fastmlp.{name}" for name in sorted(public, key=_rank))


def _rank(name):
    return (FIRST.index(name), "") if name in FIRST else (len(FIRST), name)


def _write(app):
    pages, homes = modules(), {}
    for name in (*pages[1:], pages[0]):  # The top has what no other page has.
        for path, value in names_of(name).items():
            # Numbers and texts are shared by names that have nothing to do with each other.
            if isinstance(value, type) or inspect.isroutine(value):
                homes.setdefault(id(value), path)
    texts = {f"{name}.rst": "\n".join(_page(name, homes)) for name in pages}
    made.write(app, {"index.rst": "\n".join(_index(pages)), **texts})


def _index(pages):
    first = 1 + len(FIRST)
    yield from _title("Reference", "=")
    yield from ("Every public name, from its docstring; the command, from its own help.", "")
    yield from _toctree("To train and to use networks", ["command", *pages[:first]])
    yield from _toctree("What these are made of", pages[first:])


def _toctree(caption, entries):
    yield from (f".. rubric:: {caption}", "", ".. toctree::", "   :maxdepth: 1", "")
    yield from (*(f"   {entry}" for entry in entries), "")


def _title(text, line):
    return text, line * len(text), ""


def _page(name, homes):
    yield from _title(name, "=")
    yield from _module(name, homes, names_of(name))
    for inner, names in _inner(name):
        yield from _title(inner, "-")
        yield from _module(inner, homes, names)


def _inner(name):
    """(name, its names) of modules that have a section on the page of another."""
    for info in pkgutil.iter_modules(getattr(importlib.import_module(name), "__path__", ())):
        inner = f"{name}.{info.name}"
        if name == "fastmlp.kernels" and info.name[0] != "_" and kernels_of(inner):
            yield inner, kernels_of(inner)
        elif inner in names_of(name) and inner not in modules():
            yield inner, names_of(inner)


def _module(name, homes, names):
    yield from (f".. automodule:: {name}", "")
    elsewhere = {}
    for path, value in names.items():
        if homes.get(id(value), path) != path:
            elsewhere[path] = value
        elif isinstance(value, type):
            yield from _class(path, value)
        elif inspect.isroutine(value):
            yield from (f".. autofunction:: {path}", "")
        elif not isinstance(value, types.ModuleType):
            yield from _constant(name, path, value)
    if elsewhere:
        yield from (".. rubric:: Also here", "")
        for path, value in elsewhere.items():
            yield from _elsewhere(path, value, homes[id(value)])


@functools.cache
def names_of(name):
    """{full name: value} of what a module has for others, in the order in which it has them."""
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None) or _defined(module)
    return {f"{name}.{each}": getattr(module, each) for each in names}


def kernels_of(name):
    """{full name: value} of the functions of a kernel module that Python calls."""
    names = names_of(name).items()
    return {path: value for path, value in names if isinstance(value, types.FunctionType)}


def _statements(module):
    return ast.parse(inspect.getsource(module)).body


def _targets(statement):
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _defined(module):
    names = [name for statement in _statements(module) for name in _targets(statement)]
    return dict.fromkeys(name for name in names if name[0] != "_")


def _last(path):
    """The name alone: what follows ``automodule`` is in that module."""
    return path.rpartition(".")[2]


def _elsewhere(path, value, home):
    kind = "class" if isinstance(value, type) else "function"
    yield from (f".. py:{kind}:: {_last(path)}", "   :no-typesetting:", "")
    yield from (f":py:obj:`{_last(path)} <{home}>`", f"    {_first_line(value)}", "")


def _first_line(value):
    return inspect.getdoc(value).partition("\n")[0]


def _class(path, value):
    yield from (f".. autoclass:: {path}", "   :members:")
    bases = [base for base in value.__mro__[1:] if _has_text(base)]
    if set(bases) - UNSAID:
        yield "   :show-inheritance:"
    # Members that come from a class that has a text of its own, or from a library, stand there.
    yield f"   :inherited-members: {', '.join(base.__name__ for base in bases)}"
    known = {name for base in bases for name in vars(base) if name[0] != "_"}
    yield from (f"   :exclude-members: {', '.join(sorted(known - set(vars(value))))}", "")


def _has_text(cls):
    return not cls.__module__.startswith("fastmlp.") or any(
        value is cls for name in modules() for value in names_of(name).values()
    )


def _signature(app, what, name, obj, options, signature, returned):
    """That of ``__init__``, where ``__new__`` only looks at the names of arguments."""
    if what == "class" and issubclass(obj, NearestNames):
        text = stringify_signature(sphinx_signature(obj.__init__, bound_method=True))
        return text.rpartition(" -> ")[0] or text, None
    return None


def _skip_made_by_others(app, what, name, obj, skip, options):
    """Methods that a library gives a class have their text there."""
    module = getattr(obj, "__module__", None) or "builtins"
    return True if inspect.isroutine(obj) and not module.startswith("fastmlp") else None


def _public_bases(app, name, obj, options, bases):
    found = [base for base in obj.__mro__[1:] if base not in UNSAID and _has_text(base)]
    bases[:] = found[:1]


def _constant(module, path, value):
    yield f".. py:data:: {_last(path)}"
    text = repr(value)
    if isinstance(value, (int, float, str, tuple)) and len(text) < SHORT:
        yield f"   :value: {text}"
    yield from ("", *(f"   {line}" for line in _said(module, _last(path))), "")


def _said(module, name):
    """The docstring under a constant, or the comment above it."""
    module = importlib.import_module(module)
    body, lines = _statements(module), inspect.getsource(module).splitlines()
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if name in _targets(statement):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(after.value.value).splitlines()
            above, at = [], statement.lineno - 2
            while lines[at].startswith("# "):
                above.insert(0, lines[at][2:])
                at -= 1
            return above
    return []
