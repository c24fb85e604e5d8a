"""The asv suites. asv imports this folder as a package of its own, in an environment of its own.

The table of cases lies in the repository beside it, so the repository is put at the end of the
path: ``fastmlp`` itself is found earlier, as the installed version that is to be measured.
Compiled code is kept per version, in a folder named after the installed source.
"""

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]


def _source_digest() -> str:
    """Of the fastmlp that will be imported."""
    spec = importlib.util.find_spec("fastmlp")
    digest = hashlib.sha256()
    if spec is not None and spec.origin is not None:
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


sys.path.append(str(_REPOSITORY))
# Numba looks at this once, when it is imported.
if "numba" not in sys.modules:
    os.environ["NUMBA_CACHE_DIR"] = str(_REPOSITORY / ".asv" / "compiled" / _source_digest())
