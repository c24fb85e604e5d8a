"""Step 2, float32: half of the bytes, and twice as many numbers in a register.

The program is that of step 1, which computes in the numbers that x has.
"""

import numpy as np

from . import setting
from .step01_numpy import train

DTYPE = np.float32

if __name__ == "__main__":
    setting.run(train, DTYPE)
