"""Philox4x32-10 as its paper writes it, and the masks of dropout made from it, in plain NumPy."""

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    """Four arrays of words, from four of counters and two of keys: whole numbers below 2**32."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    k, m = key
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b = (q >> np.uint64(32)) ^ b ^ np.uint64(k), q & _LOW
        c, d = (p >> np.uint64(32)) ^ d ^ np.uint64(m), p & _LOW
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return a, b, c, d


def dropout_factors(shape, rate, layer, step, seed):
    """0 where the word of an entry is below rate * 2**32, 1 / (1 - rate) elsewhere; float64.

    Counters are (column, row // 4, step, layer), of which the row % 4-th word counts; the upper
    half of the step lies 16 bits above the layer.
    """
    columns, draws = np.meshgrid(np.arange(shape[1]), np.arange(-(-shape[0] // 4)))
    last = layer + (step >> 32 << 16)
    words = philox((columns, draws, step % 2**32, last), (seed % 2**32, seed >> 32))
    rows = np.stack(words, axis=1).reshape(-1, shape[1])[: shape[0]]
    return (rows >= min(round(rate * 2**32), 2**32 - 1)) / (1 - rate)
