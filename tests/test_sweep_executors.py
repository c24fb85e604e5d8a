"""train_many on executors: fits that stay in this process, that leave it, that are lost."""

import pickle
import threading
import warnings
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import pytest

import fastmlp
from fastmlp.sweeps import FitLostError, _course, _travel, train_many
from tests.sweeps import Direct, assert_trained, fits_of, network, options


@pytest.fixture
def nothing_leaves(monkeypatch):
    """Whoever would copy a network or its data fails."""

    def refuse(*arguments, **options):
        raise AssertionError("this process shares its memory")

    monkeypatch.setattr(_course.Handed, "packed", refuse)
    monkeypatch.setattr(_travel.Folder, "put", refuse)
    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)


class Seen:
    """The networks that have been trained."""

    def __init__(self):
        self.networks = []

    def on_train_end(self, mlp, history):
        self.networks.append(mlp)


@pytest.mark.usefixtures("nothing_leaves")
def test_threads_of_the_callers_executor_train_the_networks_themselves():
    seen = Seen()
    fits = fits_of(5, callbacks=[seen])
    with ThreadPoolExecutor(2) as executor:
        train_many(fits, executor=executor)
        # It is still there.
        assert executor.submit(len, "abc").result() == 3
    assert {id(mlp) for mlp in seen.networks} == {id(mlp) for mlp, _ in fits}
    assert_trained(fits)


@pytest.mark.usefixtures("nothing_leaves")
def test_an_executor_of_any_kind():
    fits = fits_of(3)
    train_many(fits, executor=Direct())
    assert_trained(fits)


class Pickling(Direct):
    """As if there were another process: what it calls goes there and comes back as bytes."""

    def call(self, function):
        return pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))()))


def test_a_pickle_in_the_same_process():
    """Its threads and its warnings are left to it."""
    before = fastmlp.get_num_threads()
    fits = fits_of(3)
    fits[1][0].lr = 1e30
    with pytest.warns(fastmlp.history.NotFiniteWarning):
        train_many(fits, executor=Pickling())
    assert fastmlp.get_num_threads() == before
    fits[1] = (network(1), {})
    fits[1][0].fit(**options(seed=1))
    assert_trained(fits)


def test_a_warning_that_is_an_error_here_is_the_fits():
    fits = fits_of(2)
    fits[1][0].lr = 1e30
    with warnings.catch_warnings():
        warnings.simplefilter("error", fastmlp.history.NotFiniteWarning)
        with pytest.raises(fastmlp.history.NotFiniteWarning) as error:
            train_many(fits, executor=Pickling())
    assert error.value.__notes__[-1] == "raised by fits[1] of train_many"


class Counting(Direct):
    """Says that it has so many workers; keeps what it is given until it is asked to go on."""

    def __init__(self, workers):
        self._max_workers, self.most, self.waiting = workers, 0, []

    def submit(self, function, /, *arguments, **options):
        future = Future()
        self.waiting.append((function, future))
        self.most = max(self.most, len(self.waiting))
        threading.Timer(0.05, self.go_on).start()
        return future

    def go_on(self):
        function, future = self.waiting.pop(0)
        future.set_result(function())


@pytest.mark.parametrize(
    ("workers", "max_workers", "most"), [(3, None, 3), (3, 2, 2), (3, 5, 5), (None, None, 6)]
)
def test_as_many_at_a_time_as_there_are_workers(workers, max_workers, most):
    executor, fits = Counting(workers), fits_of(6)
    train_many(fits, max_workers, executor=executor)
    assert executor.most == most
    assert_trained(fits)


class Mortal(Counting):
    """Three workers, all of which go with the one that the killer is in; ``at_work`` of all."""

    at_work = ()

    def __init__(self):
        super().__init__(3)
        self.broken = False

    def submit(self, fit, /, *arguments, **options):
        if self.broken:
            raise BrokenExecutor("it is broken")
        future = super().submit(fit)
        type(self).at_work.append([other.index for other, _ in self.waiting])
        return future

    def go_on(self):
        if self.broken:
            return
        if self.waiting[0][0].mlp is not self.killer:
            super().go_on()
            return
        self.broken = True
        for _, future in self.waiting:
            future.set_exception(BrokenExecutor("a worker died"))


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_fits_that_were_lost_are_tried_again_alone(retries, monkeypatch):
    """After all others; what its worker dies of takes no other with it."""
    fits = fits_of(7)
    monkeypatch.setattr(Mortal, "killer", fits[1][0], raising=False)
    monkeypatch.setattr(Mortal, "at_work", [])
    results = train_many(fits, executor=Mortal, retries=retries, on_error="return")
    lost = [i for i, result in enumerate(results) if isinstance(result, FitLostError)]
    if retries == 0:
        assert 1 in lost
        assert len(lost) <= 3
        return
    assert lost == [1]
    times = f"{retries + 1} times"
    assert str(results[1]).endswith(f"the worker, {times}: BrokenExecutor: a worker died")
    handed = [at_work[-1] for at_work in Mortal.at_work]
    assert handed.count(1) == retries + 1
    for place, at_work in enumerate(Mortal.at_work):
        if handed[place] in handed[:place]:
            assert at_work == [handed[place]]
            assert {*handed[:place]} == {*range(7)}
    fits[1] = (network(1), {})
    fits[1][0].fit(**options(seed=1))
    assert_trained(fits)


def test_a_function_makes_the_executor_and_it_is_shut_down():
    made = []

    def make():
        made.append(ThreadPoolExecutor(2))
        return made[-1]

    train_many(fits_of(3), executor=make)
    (executor,) = made
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(len, "abc")
