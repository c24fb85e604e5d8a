"""In which form a fit reads its x: arrays of any size may be held, and what is read is noted."""

import contextlib
from unittest import mock

from fastmlp import _session, _sources
from fastmlp.engine import data_of


@contextlib.contextmanager
def forms_read(least_bytes=0, least_epochs=2):
    """A set, in which the dtypes are that are read in the meantime.

    least_bytes : of the arrays that may be held
    least_epochs : of the fits that may, whatever the form; None for those of every form
    """
    forms = set()

    def noted(x, *rest):
        forms.add(x.dtype.name)
        return data_of(x, *rest)

    with (
        mock.patch.object(_sources, "LEAST_BYTES", least_bytes),
        mock.patch.dict(_sources.LEAST_EPOCHS),
        mock.patch.object(_session, "data_of", noted),
    ):
        if least_epochs is not None:
            _sources.LEAST_EPOCHS.update(dict.fromkeys(_sources.LEAST_EPOCHS, least_epochs))
        yield forms
