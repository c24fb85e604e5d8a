"""How much of what a network may have a compiled epoch knows.

Most networks have few of the layers' extras, and most trainings one kind of update. An epoch that
knows no more than that is compiled in half the time; it is the same code otherwise, to the bit. As
with units, a vocabulary is a type: a helper that is decorated with ``needs`` does nothing in an
epoch of a smaller one, and the compiler never sees what is in it.
"""

from __future__ import annotations

from typing import NamedTuple

from ._jit import inline_where
from ._reference import Reference
from ._units import FloatUnit

# What may be left out, a bit for each.
APART = 1  # updates from gradients in memory, what is done with these before, sums of squares
RARE = 2  # activations, losses and rules other than the most frequent ones
NORMS = 4  # batch norm and dropout
EXTRAS = 8  # layer norm and whatever else layers may have
ZEROS = 16  # columns of zeros in a batch, which products leave out: see ``present``


class Plain(NamedTuple):
    """Products, the frequent activations, softmax, and momentum in the gradient's tiles."""

    words: int = 0


class Apart(NamedTuple):
    """With updates apart, by the frequent rules."""

    words: int = APART


class Rare(NamedTuple):
    """With all activations and losses."""

    words: int = RARE


class RareApart(NamedTuple):
    """With all activations, losses and rules."""

    words: int = RARE | APART


class PlainZeros(NamedTuple):
    """``Plain``, with columns of zeros."""

    words: int = ZEROS


class ApartZeros(NamedTuple):
    """``Apart``, with columns of zeros."""

    words: int = APART | ZEROS


class Norms(NamedTuple):
    """``Plain``, with batch norm and dropout."""

    words: int = NORMS


class NormsZeros(NamedTuple):
    """``PlainZeros``, with batch norm and dropout."""

    words: int = NORMS | ZEROS


class NormsApart(NamedTuple):
    """``Apart``, with batch norm and dropout."""

    words: int = NORMS | APART


class NormsApartZeros(NamedTuple):
    """``ApartZeros``, with batch norm and dropout."""

    words: int = NORMS | APART | ZEROS


class Whole(NamedTuple):
    """With all there is."""

    words: int = RARE | APART | NORMS | EXTRAS | ZEROS


# The smallest come first.
VOCABULARIES = (
    Plain, PlainZeros, Apart, ApartZeros, Norms, NormsZeros, NormsApart, NormsApartZeros, Rare,
    RareApart, Whole,
)  # fmt: skip
Vocabulary = (
    Plain | PlainZeros | Apart | ApartZeros | Norms | NormsZeros | NormsApart | NormsApartZeros
    | Rare | RareApart | Whole
)  # fmt: skip
WHOLE = Whole()


def wider(least: Vocabulary) -> list[type[Vocabulary]]:
    """A vocabulary and all that have its words, the smallest first."""
    return [each for each in VOCABULARIES if each().words & least.words == least.words]


def smallest_with(words: int) -> Vocabulary:
    """The smallest vocabulary that has these words."""
    return wider(Plain(words))[0]()


def _holder_of(name, arguments):
    """The type among those of a helper's arguments that has a field of this name."""
    for argument in arguments:
        kind = argument.target if isinstance(argument, Reference) else argument
        if name in getattr(kind, "fields", ()):
            return argument
    raise TypeError(f"a helper with a condition must be given something that has a {name}")


def _field_of(holder, name):
    if isinstance(holder, Reference):
        return holder.field(name)
    return holder.types[holder.fields.index(name)]


def needs(words, otherwise=None):
    """``inline`` for a helper that is left out of the epochs that do not have these words.

    It takes a network, or another named tuple, that tells its ``vocabulary``.
    otherwise : a helper that is called in its place; by default nothing is done
    """

    return inline_where(lambda arguments: _knows(words, arguments), otherwise)


def _knows(words, arguments):
    known = _field_of(_holder_of("vocabulary", arguments), "vocabulary").instance_class
    return known().words & words == words


def _rounds(arguments):
    unit = _field_of(_field_of(_holder_of("packed", arguments), "packed"), "unit")
    return unit.instance_class is not FloatUnit


# ``inline`` for a helper that does nothing where floats are multiplied as they are.
needs_rounding = inline_where(_rounds)


def needs_zeros(otherwise=None):
    """``needs(ZEROS, otherwise)``; left out as well where operands are rounded."""

    def is_known(arguments):
        return _knows(ZEROS, arguments) and not _rounds(arguments)

    return inline_where(is_known, otherwise)


def _has_lists(arguments):
    return hasattr(_field_of(_holder_of("lists", arguments), "lists"), "ndim")


# ``inline`` for a helper that does nothing where ``present.Features`` are always all.
needs_lists = inline_where(_has_lists)
