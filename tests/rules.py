"""Update rules as the papers and torch.optim's documentation write them, in plain NumPy.

Each takes (optimizer, t, w, states, g), t being the number of the update from 1, and returns the
new (w, *states). Decay is the optimizer's own, coupled or decoupled.
"""

import numpy as np


def momentum(o, t, w, states, g):
    v = o.momentum * states[0] - o.lr * (g + 2 * o.weight_decay * w)
    return w + v, v


def sgd(o, t, w, states, g):
    g = g + o.weight_decay * w
    dampening = 0 if t == 1 or o.momentum == 0 else o.dampening
    v = o.momentum * states[0] + (1 - dampening) * g
    return w - o.lr * (g + o.momentum * v if o.nesterov else v), v


def _moments(o, states, g):
    b1, b2 = o.betas
    return b1 * states[0] + (1 - b1) * g, b2 * states[1] + (1 - b2) * g * g


def _adam_step(o, t, m, v):
    b1, b2 = o.betas
    return o.lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + o.eps)


def adam(o, t, w, states, g):
    m, v = _moments(o, states, g + o.weight_decay * w)
    return w - _adam_step(o, t, m, v), m, v


def adamw(o, t, w, states, g):
    g = g + 0 * w  # As with a decay of 0: NaN where the parameter is infinite.
    m, v = _moments(o, states, g)
    return (1 - o.lr * o.weight_decay) * w - _adam_step(o, t, m, v), m, v


def nadam(o, t, w, states, g):
    g = g + o.weight_decay * w
    m, v = _moments(o, states, g)
    momenta = [o.betas[0] * (1 - 0.5 * 0.96 ** (i * o.momentum_decay)) for i in range(1, t + 2)]
    now = np.prod(momenta[:-1])
    ahead = momenta[-1] * m / (1 - now * momenta[-1]) + (1 - momenta[-2]) * g / (1 - now)
    return w - o.lr * ahead / (np.sqrt(v / (1 - o.betas[1] ** t)) + o.eps), m, v


def radam(o, t, w, states, g):
    g = g + o.weight_decay * w
    m, v = _moments(o, states, g)
    b1, b2 = o.betas
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    mean = m / (1 - b1**t)
    if length <= 5:
        return w - o.lr * mean, m, v
    above, below = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
    adaptive = np.sqrt(1 - b2**t) / (np.sqrt(v) + o.eps)
    return w - o.lr * mean * np.sqrt(above / below) * adaptive, m, v


def rmsprop(o, t, w, states, g):
    g = g + o.weight_decay * w
    s = o.alpha * states[1] + (1 - o.alpha) * g * g
    v = o.momentum * states[0] + g / (np.sqrt(s) + o.eps)
    return w - o.lr * v, v, s


def adagrad(o, t, w, states, g):
    g = g + o.weight_decay * w
    s = states[0] + g * g
    return w - o.lr / (1 + (t - 1) * o.lr_decay) * g / (np.sqrt(s) + o.eps), s


def adamax(o, t, w, states, g):
    g = g + o.weight_decay * w
    m = o.betas[0] * states[0] + (1 - o.betas[0]) * g
    u = np.maximum(o.betas[1] * states[1], np.abs(g) + o.eps)
    return w - o.lr / (1 - o.betas[0] ** t) * m / u, m, u


def lion(o, t, w, states, g):
    b1, b2 = o.betas
    g = g + 0 * w
    direction = np.sign(b1 * states[0] + (1 - b1) * g)
    return (1 - o.lr * o.weight_decay) * w - o.lr * direction, b2 * states[0] + (1 - b2) * g


# By the names of the classes in fastmlp.optimizers.
UPDATES = {
    "Momentum": momentum,
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adamw,
    "NAdam": nadam,
    "RAdam": radam,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
    "Adamax": adamax,
    "Lion": lion,
}
