"""Step 7, a blocked layout: what a tile reads one after the other lies side by side.

The epoch is that of step 6, with the same indices; its arrays are others.
"""

from fastmlp.kernels._host import aligned_zeros

from . import blocks, setting
from .arrays import trainer
from .blocks import WIDTH
from .step06_tile import DTYPE, epoch


def in_blocks(matrix):
    """A copy of a matrix, (columns // WIDTH, rows, WIDTH), each block one piece of memory."""
    copy = aligned_zeros(matrix.size, DTYPE).reshape(-1, len(matrix), WIDTH)
    copy[:] = blocks.in_blocks(matrix)
    return copy


train = trainer(epoch, WIDTH, in_blocks)

if __name__ == "__main__":
    setting.run(train, DTYPE)
