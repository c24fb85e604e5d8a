"""Step 8, the update in the tile: a gradient is used in its registers and never is in memory."""

from . import setting
from .arrays import trainer
from .blocks import WIDTH, gather, sum_rows, transpose, update
from .epoch import compiled_epoch, inline
from .step06_tile import DTYPE, gradient_tile, keep_positive, multiply
from .step07_blocks import in_blocks


@inline
def learn_tile(w, n, i, layer, x, dz):
    """The steps of four rows of w, and, with the first of a block, of the block's biases."""
    c = gradient_tile(layer, n, i, x, dz)
    for r in range(4):
        update(w[n, i + r], layer.vw[n, i + r], c[r])
    if i == 0:
        update(layer.b[n, 0], layer.vb[n, 0], sum_rows(dz[n]))


@inline
def learn(layer, x, dz):
    """The steps of a layer, a tile at a time."""
    for n in range(layer.w.shape[0]):
        for i in range(0, layer.w.shape[1], 4):
            learn_tile(layer.w, n, i, layer, x, dz)


epoch = compiled_epoch(gather, transpose, multiply, keep_positive, learn)
train = trainer(epoch, WIDTH, in_blocks)

if __name__ == "__main__":
    setting.run(train, DTYPE)
