"""Random words from a counter and a key: Philox4x32-10, as many counters at once as lanes.

Reference: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011,
section 3.3, with the constants of their library Random123.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ._simd import MaskType, VectorType, splat_ir, vector_ir

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85

_INT64 = ir.IntType(64)


def signed(number: int) -> int:
    """The int64 of the same 64 bits, as compiled code takes seeds and steps."""
    return number - (number >> 63 << 64)


def _words_of(like):
    """A register of whole numbers with as many lanes as one of an array's floats."""
    return VectorType(types.uint32 if like.dtype == types.float32 else types.uint64)


def _low_half(builder, v):
    return builder.and_(v, ir.Constant(v.type, [0xFFFFFFFF] * v.type.count))


def _rounds(builder, words, key):
    """Ten rounds on four registers of 64-bit lanes, whose upper halves hold anything.

    Processors multiply the lower halves of such lanes into whole ones, and no word then has to
    change its place.
    """
    count = words[0].type.count
    multipliers = [ir.Constant(words[0].type, [m] * count) for m in _MULTIPLIERS]
    half = ir.Constant(words[0].type, [32] * count)
    for _ in range(_ROUNDS):
        first, second = (
            builder.mul(_low_half(builder, word), multiplier)
            for word, multiplier in zip(words[::2], multipliers, strict=True)
        )
        keys = [splat_ir(builder, k, count) for k in key]
        mixed = [
            builder.xor(builder.xor(builder.lshr(product, half), word), k)
            for product, word, k in zip((second, first), words[1::2], keys, strict=True)
        ]
        words = [mixed[0], second, mixed[1], first]
        key = [builder.add(k, _INT64(step)) for k, step in zip(key, _KEY_STEPS, strict=True)]
    return [_low_half(builder, word) for word in words]


@intrinsic
def philox(typingctx, like, first, others, key):
    """Four registers of words, whose lane j is for the counter (first + j, *others).

    like : an array, whose dtype decides on the lanes; a word fills a lane of its size
    first, others[0 ... 2], key[0 ... 1] : int64, of which the lower 32 bits count
    """
    words = _words_of(like)
    counters, keys = types.UniTuple(types.int64, 3), types.UniTuple(types.int64, 2)

    def codegen(context, builder, sig, args):
        lanes = ir.VectorType(_INT64, words.count)
        columns = splat_ir(builder, args[1], words.count)
        columns = builder.add(columns, ir.Constant(lanes, list(range(words.count))))
        rest = cgutils.unpack_tuple(builder, args[2], 3)
        state = [columns, *[splat_ir(builder, word, words.count) for word in rest]]
        state = _rounds(builder, state, cgutils.unpack_tuple(builder, args[3], 2))
        if words.dtype == types.uint32:
            state = [builder.trunc(word, vector_ir(words)) for word in state]
        return context.make_tuple(builder, sig.return_type, state)

    return signature(types.UniTuple(words, 4), like, types.int64, counters, keys), codegen


@intrinsic
def reaches(typingctx, words, limit):
    """Mask of the lanes whose word is at least ``limit``, which is below 2**32."""

    def codegen(context, builder, sig, args):
        limit = builder.trunc(args[1], vector_ir(words).element)
        return builder.icmp_unsigned(">=", args[0], splat_ir(builder, limit, words.count))

    return signature(MaskType(words.count), words, types.int64), codegen
