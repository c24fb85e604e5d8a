"""Every public kernel and layer, by batch, width, dtype and threads."""

import numpy as np

import fastmlp
from benchmarks.cases import KERNELS, LAYERS

_DTYPES = {"float32": np.float32, "float64": np.float64}


class Kernels:
    """A call of a kernel on one thread."""

    param_names = ("kernel", "batch", "width", "dtype")
    params = (list(KERNELS), [16, 128], [64, 512], list(_DTYPES))

    def setup(self, kernel, batch, width, dtype):
        fastmlp.set_num_threads(1)
        case = KERNELS[kernel]
        self.kernel = case.kernel
        self.arguments = case.arguments(batch, width, _DTYPES[dtype])
        self.kernel(*self.arguments)  # compiles

    def time_kernel(self, kernel, batch, width, dtype):
        self.kernel(*self.arguments)


class Threads:
    """The products of a layer of 1,024 units at batch 256 on several threads."""

    param_names = ("kernel", "threads")
    params = (["linear_forward", "linear_backward"], [1, 2, 4])

    def setup(self, kernel, threads):
        fastmlp.set_num_threads(threads)
        case = KERNELS[kernel]
        self.kernel = case.kernel
        self.arguments = case.arguments(256, 1024, np.float32)
        self.kernel(*self.arguments)

    def time_kernel(self, kernel, threads):
        self.kernel(*self.arguments)


class Layers:
    """A layer there and back, 512 features, batch 128, float32."""

    param_names = ("layer",)
    params = (list(LAYERS),)

    def setup(self, layer):
        case = LAYERS[layer]
        self.layer = case.make(512, np.float32)
        self.forward, self.gradient = case.inputs(128, 512, np.float32)
        self.back = getattr(self.layer, case.backward)
        self.time_forward_backward(layer)

    def time_forward_backward(self, layer):
        self.layer.forward(*self.forward)
        self.back(*self.gradient)
