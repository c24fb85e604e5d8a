"""Step 6, a tile: sums of four rows by two vectors stay in registers until they are complete."""

from fastmlp.kernels._simd import fma

from . import setting
from .arrays import trainer
from .blocks import WIDTH, gather, get, in_blocks, put, sum_rows, transpose, update
from .epoch import compiled_epoch, inline
from .step05_vector import DTYPE, keep_positive


@inline
def add_product(c, a, b):
    """c + a * b, of pairs c and b and a number a."""
    return fma(a, b[0], c[0]), fma(a, b[1], c[1])


@inline
def tile(c, a, i, b):
    """c + a[i : i + 4] @ b: c are four pairs, and b is as wide as a pair."""
    c0, c1, c2, c3 = c
    for k in range(b.shape[0]):
        pair = get(b[k])
        c0 = add_product(c0, a[i, k], pair)
        c1 = add_product(c1, a[i + 1, k], pair)
        c2 = add_product(c2, a[i + 2, k], pair)
        c3 = add_product(c3, a[i + 3, k], pair)
    return c0, c1, c2, c3


@inline
def multiply_tile(y, n, i, x, w, b):
    """Four rows of y = x @ w + b: of block n, from i on."""
    bias = get(b[n, 0])
    c = bias, bias, bias, bias
    # The columns of x are in blocks too: those of block m meet as many rows of w.
    for m in range(x.shape[0]):
        c = tile(c, x[m], i, w[n, m * WIDTH : (m + 1) * WIDTH])
    for r in range(4):
        put(y[n, i + r], c[r])


@inline
def multiply(y, x, w, b):
    """y = x @ w + b"""
    for n in range(y.shape[0]):
        for i in range(0, y.shape[1], 4):
            multiply_tile(y, n, i, x, w, b)


@inline
def gradient_tile(layer, n, i, x, dz):
    """Four rows of dw = x.T @ dz, in registers; row i of x.T is column i of x."""
    zero = get(layer.zeros[0, 0])
    return tile((zero, zero, zero, zero), x[i // WIDTH].T, i % WIDTH, dz[n])


@inline
def learn(layer, x, dz):
    """The steps by dw = x.T @ dz, of which g has one block at a time, and by db."""
    g = layer.dw[0]
    for n in range(layer.w.shape[0]):
        for i in range(0, layer.w.shape[1], 4):
            c = gradient_tile(layer, n, i, x, dz)
            for r in range(4):
                put(g[i + r], c[r])
        for i in range(layer.w.shape[1]):
            update(layer.w[n, i], layer.vw[n, i], get(g[i]))
        update(layer.b[n, 0], layer.vb[n, 0], sum_rows(dz[n]))


epoch = compiled_epoch(gather, transpose, multiply, keep_positive, learn)
train = trainer(epoch, WIDTH, in_blocks)

if __name__ == "__main__":
    setting.run(train, DTYPE)
