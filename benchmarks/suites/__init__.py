"""The asv suites. asv imports this folder as a package of its own, in an environment of its own.

The table of cases lies in the repository beside it, so the repository is put at the end of the
path: ``fastmlp`` itself is found earlier, as the installed version that is to be measured.
Compiled code is kept per version, in a folder named after the installed source.
"""

import os
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]

sys.path.append(str(_REPOSITORY))
# Numba looks at this once, when it is imported.
if "numba" not in sys.modules:
    from benchmarks.source import installed_digest

    os.environ["NUMBA_CACHE_DIR"] = str(_REPOSITORY / ".asv" / "compiled" / installed_digest())
