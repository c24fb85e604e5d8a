"""Step 4, fusing: what is done with a sum is done while it is at hand, not in a pass of its own."""

from . import setting
from .arrays import trainer
from .epoch import compiled_epoch, gather, inline, transpose
from .setting import MOMENTUM, RATE
from .step03_loop import DTYPE, add_rows, keep_positive


@inline
def copy_row(y, row, b):
    """y[row] = b"""
    for j in range(y.shape[1]):
        y[row, j] = b[0, j]


@inline
def update(p, v, row, g):
    """The step of a row of parameters by its gradient g, which becomes 0."""
    for j in range(p.shape[1]):
        v[row, j] = MOMENTUM * v[row, j] - RATE * g[0, j]
        p[row, j] += v[row, j]
        g[0, j] = 0


def fused(copy_row, add_rows, update):
    """(multiply, learn), made of what is done with a row."""

    @inline
    def multiply(y, x, w, b):
        """y = x @ w + b"""
        for i in range(y.shape[0]):
            copy_row(y, i, b)
        for k in range(0, w.shape[0], 4):
            for i in range(y.shape[0]):
                add_rows(y, i, x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3], w, k)

    @inline
    def learn(layer, x, dz):
        """The steps by dw = x.T @ dz, of which g has one row at a time, and by db."""
        g = layer.db
        for k in range(layer.w.shape[0]):
            for i in range(0, x.shape[0], 4):
                add_rows(g, 0, x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k], dz, i)
            update(layer.w, layer.vw, k, g)
        for i in range(0, x.shape[0], 4):
            add_rows(g, 0, 1, 1, 1, 1, dz, i)
        update(layer.b, layer.vb, 0, g)

    return multiply, learn


multiply, learn = fused(copy_row, add_rows, update)
epoch = compiled_epoch(gather, transpose, multiply, keep_positive, learn)
train = trainer(epoch, width=4)

if __name__ == "__main__":
    setting.run(train, DTYPE)
