"""Formulas as MathML, which browsers draw themselves: pages need no script of another server."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

# What docutils knows by another name, or draws in the same way without.
NAMES = {r"\texttt": r"\mathtt", r"\dots": r"\ldots", r"\mathrel": ""}


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True}


def _inline(translator, node):
    translator.body.append(_shown(node, as_block=False))
    raise nodes.SkipNode


def _display(translator, node):
    translator.body.append(f'<div class="formula">{_shown(node, as_block=True)}</div>')
    raise nodes.SkipNode


def _shown(node, as_block):
    try:
        return markup(node.astext(), as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s %s", error, node.astext(), location=node)
        return ""


def markup(text, as_block=False):
    """A formula of TeX's as MathML. Raises MathError where it has a name that is not known."""
    for name, known in NAMES.items():
        text = text.replace(name, known)
    return tex2mathml(text, as_block=as_block)
