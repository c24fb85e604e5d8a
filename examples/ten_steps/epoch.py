"""The course of an epoch, which no step from 3 to 8 changes, and what else stays as it is.

What is marked ``inline`` is compiled into its callers; only compiled code can call it.
"""

import numba
import numpy as np

from fastmlp.kernels._jit import OPTIONS, inline

# Nothing is kept on disk: Numba would not notice that a helper in another file has changed.
compiled = numba.njit(**OPTIONS)


def compiled_epoch(gather, transpose, multiply, keep_positive, learn):
    """An epoch, compiled together with the functions that it calls."""

    @compiled
    def epoch(first, second, work, x, labels, order):
        """Train on all batches; returns the sum of the losses."""
        # The batch, the hidden layer, the outputs, and room for the hidden layer's gradient; logits
        # are the columns of z that stand for a class.
        a, h, z, dh, logits = work
        loss = 0.0
        for rows in order:
            gather(a, x, rows)
            multiply(h, a, first.w, first.b)
            keep_positive(h, h)
            multiply(z, h, second.w, second.b)
            for i in range(len(rows)):
                loss += softmax_loss(logits[i], labels[rows[i]], len(rows))
            # What is in z now is dz, its gradient: softmax_loss has put it there.
            transpose(second.wt, second.w)
            multiply(dh, z, second.wt, second.zeros)
            keep_positive(dh, h)
            learn(first, a, dh)
            learn(second, h, z)
        return loss

    return epoch


@inline
def gather(batch, x, rows):
    """batch = x[rows]"""
    for i in range(rows.size):
        for k in range(x.shape[1]):
            batch[i, k] = x[rows[i], k]


@inline
def transpose(wt, w):
    """wt = w.T"""
    for k in range(w.shape[0]):
        for j in range(w.shape[1]):
            wt[j, k] = w[k, j]


@inline
def softmax_loss(z, label, batch):
    """A row's loss; z, its logits, becomes its share in the gradient of the batch's mean loss."""
    largest, total, wanted = z[0], np.float32(0), z[label]
    for logit in z:
        largest = max(largest, logit)
    for j in range(z.size):
        z[j] = np.exp(z[j] - largest)
        total += z[j]
    for j in range(z.size):
        z[j] = (z[j] / total - (j == label)) / batch
    return np.log(total) + largest - wanted
