"""What can go wrong with a data set."""


class DatasetError(RuntimeError):
    """A data set cannot be loaded, or a data file is not what its name says."""


class DatasetNotFoundError(DatasetError):
    """A data set is in none of the folders searched and could not be downloaded."""
