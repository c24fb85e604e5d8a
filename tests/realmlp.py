"""RealMLP in plain NumPy, written from the paper's formulas.

Its layers compute y = x W / sqrt(fan_in) + b of weights W ~ N(0, 1), which Adam changes; what
fastmlp keeps is W / sqrt(fan_in).
"""

import numpy as np

BATCH = 16


def selu(z):
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    negative = np.exp(np.minimum(z, 0))
    return (
        scale * np.where(z > 0, z, alpha * (negative - 1)),
        scale * np.where(z > 0, 1, alpha * negative),
    )


def mish(z):
    softplus = np.logaddexp(0, z)
    t = np.tanh(softplus)
    return z * t, t + z * (1 - t**2) / (1 + np.exp(-z))


def softmax_delta(outputs, y, weights, smoothing):
    """Gradient of the batch's mean cross-entropy with smoothed labels."""
    classes = outputs.shape[1]
    chances = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    labels = (1 - smoothing) * np.eye(classes)[y] + smoothing / classes
    return weights[:, None] * (chances - labels) / weights.sum()


def square_delta(outputs, y, weights, smoothing):
    """Gradient of the mean of the squares over rows and outputs."""
    return weights[:, None] * 2 * (outputs - y) / (weights.sum() * y.shape[1])


class Reference:
    """RealMLP-TD-S in NumPy."""

    def __init__(self, layers, inputs, activation, delta, rate, smoothing=0.0):
        """layers : (W, b) of each, as the paper has them."""
        self.parameters = [np.ones((1, inputs)), *(array for pair in layers for array in pair)]
        self.factors = [6.0] + [1.0, 0.1] * len(layers)
        self.first = [np.zeros_like(p) for p in self.parameters]
        self.second = [np.zeros_like(p) for p in self.parameters]
        self.activation, self.delta = activation, delta
        self.rate, self.smoothing, self.steps = rate, smoothing, 0

    def train(self, x, y, weights, order_of_epochs):
        total = sum(len(order) // BATCH for order in order_of_epochs)
        for order in order_of_epochs:
            for i in range(len(order) // BATCH):
                rows = order[i * BATCH : (i + 1) * BATCH]
                progress = self.steps / total
                schedule = 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * progress)))
                gradients = self.gradients(x[rows], y[rows], weights[rows])
                self.steps += 1
                self.adam(gradients, self.rate * schedule)

    def gradients(self, x, y, weights):
        scale, *rest = self.parameters
        inputs, slopes, a = [], [], x * scale
        for i, (w, b) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            inputs.append(a)
            a = a @ w / np.sqrt(len(w)) + b
            if 2 * i + 2 < len(rest):
                a, slope = self.activation(a)
                slopes.append(slope)
        delta = self.delta(a, y, weights, self.smoothing)
        gradients = []
        for i in reversed(range(len(inputs))):
            w = rest[2 * i]
            gradients = [
                inputs[i].T @ delta / np.sqrt(len(w)),
                delta.sum(axis=0, keepdims=True),
                *gradients,
            ]
            delta = delta @ w.T / np.sqrt(len(w))
            if i:
                delta = delta * slopes[i - 1]
        return [(delta * x).sum(axis=0, keepdims=True), *gradients]

    def adam(self, gradients, rate, betas=(0.9, 0.95), eps=1e-8):
        for i, gradient in enumerate(gradients):
            self.first[i] = betas[0] * self.first[i] + (1 - betas[0]) * gradient
            self.second[i] = betas[1] * self.second[i] + (1 - betas[1]) * gradient**2
            mean = self.first[i] / (1 - betas[0] ** self.steps)
            square = self.second[i] / (1 - betas[1] ** self.steps)
            self.parameters[i] = self.parameters[i] - self.factors[i] * rate * mean / (
                np.sqrt(square) + eps
            )


class TD(Reference):
    """With parametric activations, decay, and embeddings w, b, v, c of the first columns."""

    def __init__(self, layers, decay, widths, embedding, *arguments):
        super().__init__(layers, *arguments)
        self.decay, self.layers = decay, len(layers)
        self.parameters += [np.ones((1, width)) for width in widths]
        self.factors += [0.1] * len(widths)
        self.embedding = len(self.parameters)
        self.parameters += embedding
        self.factors += [0.1] * len(embedding)
        self.first = [np.zeros_like(p) for p in self.parameters]
        self.second = [np.zeros_like(p) for p in self.parameters]

    def embed(self, x):
        """x with what is learnt of its first columns, and the angles, (N, n, H)."""
        w, b, v, c = self.parameters[self.embedding :]
        angles = 2 * np.pi * x[:, : len(w), None] * w + b
        numbers = c + np.einsum("njk,jmk->njm", np.cos(angles), v)
        return np.concatenate([x, numbers.reshape(len(x), -1)], axis=1), angles

    def gradients_of_embedding(self, x, angles, delta):
        w, _, v, c = self.parameters[self.embedding :]
        delta = delta[:, x.shape[1] :].reshape(len(x), *c.shape)
        of_angles = -np.einsum("njm,jmk->njk", delta, v) * np.sin(angles)
        return [
            (of_angles * 2 * np.pi * x[:, : len(w), None]).sum(axis=0),
            of_angles.sum(axis=0),
            np.einsum("njm,njk->jmk", delta, np.cos(angles)),
            delta.sum(axis=0),
        ]

    def gradients(self, x, y, weights):
        scale, *rest = self.parameters
        rest, mixes = rest[: 2 * self.layers], rest[2 * self.layers :]
        embedded, angles = self.embed(x)
        inputs, states, a = [], [], embedded * scale
        for i in range(self.layers):
            w, b = rest[2 * i : 2 * i + 2]
            inputs.append(a)
            z = a = a @ w / np.sqrt(len(w)) + b
            if i < self.layers - 1:
                value, slope = self.activation(z)
                states.append((value - z, 1 + mixes[i] * (slope - 1)))
                a = z + mixes[i] * (value - z)
        delta = self.delta(a, y, weights, self.smoothing)
        gradients, of_mixes = [], []
        for i in reversed(range(self.layers)):
            w = rest[2 * i]
            gradients = [
                inputs[i].T @ delta / np.sqrt(len(w)),
                delta.sum(axis=0, keepdims=True),
                *gradients,
            ]
            delta = delta @ w.T / np.sqrt(len(w))
            if i:
                curve, slope = states[i - 1]
                of_mixes.insert(0, (delta * curve).sum(axis=0, keepdims=True))
                delta = delta * slope
        return [
            (delta * embedded).sum(axis=0, keepdims=True), *gradients, *of_mixes,
            *self.gradients_of_embedding(x, angles, delta * scale),
        ]  # fmt: skip

    def adam(self, gradients, rate):
        progress = (self.steps - 1) / 21
        decay = self.decay * (1 + np.cos(np.pi * max(0, 2 * progress - 1))) / 2
        decaying = [*range(1, 1 + 2 * self.layers, 2), *range(self.embedding, len(self.parameters))]
        for i in decaying:
            self.parameters[i] = self.parameters[i] * (1 - self.factors[i] * rate * decay)
        super().adam(gradients, rate)


def split_numbers(numbers, columns, frequencies=16, outputs=3):
    """w, b, v and c of an embedding."""
    shapes = [(columns, frequencies)] * 2
    shapes += [(columns, outputs, frequencies), (columns, outputs)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = np.split(numbers, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
