"""Downloads of fastmlp.datasets from real HTTP servers on the loopback address."""

import errno
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fastmlp import datasets
from fastmlp.datasets import DatasetError, DatasetNotFoundError, _download
from fastmlp.datasets._known import IDX_SETS
from tests.tiny_mnist import NAMES, TinySet, idx_bytes, isolate, pack


@pytest.fixture(autouse=True)
def user_cache(monkeypatch, tmp_path):
    return isolate(monkeypatch, tmp_path)


@pytest.fixture
def tiny(monkeypatch):
    return TinySet(monkeypatch)


class Mirrors:
    """One server, many mirrors: the first part of a path says how the file is served."""

    def __init__(self, packed):
        self.packed = packed
        self.requests = []
        self.closing = threading.Event()
        mirrors = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                _, behaviour, name, file = self.path.split("/")
                mirrors.requests.append((behaviour, file))
                assert name == "mnist"
                getattr(mirrors, behaviour)(self, mirrors.packed[file])

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def use(self, monkeypatch, *behaviours):
        port = self.server.server_port
        addresses = [f"http://127.0.0.1:{port}/{behaviour}" for behaviour in behaviours]
        monkeypatch.setenv("FASTMLP_MIRRORS", " ".join(addresses))

    def send(self, handler, body, length=None, headers=()):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for header in headers:
            handler.send_header(*header)
        handler.end_headers()
        handler.wfile.write(body)

    def good(self, handler, body):
        self.send(handler, body)

    def absent(self, handler, body):
        handler.send_error(404)

    def failing(self, handler, body):
        handler.send_error(503)

    def corrupt(self, handler, body):
        self.send(handler, body[:-1] + bytes([body[-1] ^ 1]))

    def short(self, handler, body):
        self.send(handler, body[:-1])

    def cut(self, handler, body):
        self.send(handler, body[:-1], length=len(body))
        handler.close_connection = True

    def page(self, handler, body):
        self.send(handler, b"<html>Please log in to this network</html>")

    def inflated(self, handler, body):
        self.send(handler, pack(bytes(1 << 20)), headers=[("Content-Encoding", "gzip")])

    def negotiating(self, handler, body):
        if "gzip" in handler.headers["Accept-Encoding"]:
            self.send(handler, body, headers=[("Content-Encoding", "gzip")])
        else:
            self.send(handler, body)

    def silent(self, handler, body):
        self.closing.wait()

    def stalled(self, handler, body):
        self.send(handler, body[:10], length=len(body))
        self.closing.wait()

    def dripping(self, handler, body):
        self.send(handler, b"", length=len(body))
        for byte in body:
            if self.closing.wait(0.05):
                return
            try:
                handler.wfile.write(bytes([byte]))
            except OSError:  # the client has left
                return

    def slow(self, handler, body):
        self.send(handler, b"", length=1 << 40)
        while not self.closing.wait(0.1):
            try:
                handler.wfile.write(bytes(_download.CHUNK // 4))
            except OSError:  # the client has left
                return

    def endless(self, handler, body):
        self.send(handler, b"", length=1 << 40)
        while not self.closing.is_set():
            try:
                handler.wfile.write(bytes(1 << 16))
            except OSError:  # the client has left
                return

    def moved(self, handler, body):
        handler.send_response(302)
        handler.send_header("Location", handler.path.replace("moved", "good"))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def named(self, handler, body):
        name = 'attachment; filename="../../escaped"'
        self.send(handler, body, headers=[("Content-Disposition", name)])

    def inward(self, handler, body):
        handler.send_response(302)
        handler.send_header("Location", "file:///etc/hostname")
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def mirrors(tiny):
    server = Mirrors(dict(tiny.packed))
    yield server
    server.close()


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("behaviour", ["good", "moved", "negotiating", "named"])
def test_download_and_then_no_more(tiny, mirrors, monkeypatch, user_cache, capfd, behaviour):
    mirrors.use(monkeypatch, behaviour)
    tiny.check(datasets.load("mnist"))
    assert files_in(user_cache) == sorted(NAMES)
    assert [path.name for path in user_cache.iterdir()] == ["mnist"]
    assert os.listdir(user_cache.parents[1]) == ["cache"], "nothing outside of the folder"
    mirrors.requests.clear()
    tiny.check(datasets.load("mnist"))
    assert mirrors.requests == []
    assert capfd.readouterr() == ("", "")


FAILURES = {
    "absent": "HTTP status 404",
    "failing": "HTTP status 503",
    "corrupt": "wrong MD5 checksum",
    "short": "wrong MD5 checksum",
    "page": "wrong MD5 checksum",
    "inflated": "given up after",
    "cut": "Connection broken: IncompleteRead",
    "silent": "no data for 0.5 s|Read timed out",
    "stalled": "no data for 0.5 s|Read timed out",
    "dripping": "no data for 0.5 s",
    "endless": "given up after",
    "inward": "No connection adapters were found for 'file:///etc/hostname'",
}


@pytest.mark.parametrize(("behaviour", "reason"), FAILURES.items(), ids=FAILURES)
def test_failure_leaves_nothing_and_the_next_load_succeeds(
    tiny, mirrors, monkeypatch, user_cache, behaviour, reason
):
    monkeypatch.setattr(_download, "SILENCE", 0.5)
    monkeypatch.setattr(_download, "LARGEST", 1 << 19)
    mirrors.use(monkeypatch, behaviour)
    with pytest.raises(DatasetNotFoundError, match=f"/{behaviour}/mnist/{NAMES[0]}: ({reason})"):
        datasets.load("mnist")
    assert files_in(user_cache) == []
    assert mirrors.requests == [(behaviour, NAMES[0])], "one try, and none for the other files"

    mirrors.use(monkeypatch, "good")
    tiny.check(datasets.load("mnist"))
    assert files_in(user_cache) == sorted(NAMES)


@pytest.mark.parametrize("behaviour", ["slow", "silent"])
def test_a_transfer_that_was_given_up_ends(tiny, mirrors, monkeypatch, behaviour):
    monkeypatch.setattr(_download, "SILENCE", 0.2)
    mirrors.use(monkeypatch, behaviour)
    before = set(threading.enumerate())
    with pytest.raises(DatasetNotFoundError, match=r"no data for 0\.2 s|Read timed out"):
        datasets.load("mnist")
    for thread in set(threading.enumerate()) - before:
        if thread.name == "fastmlp-download":
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("behaviour", ["absent", "corrupt", "cut"])
def test_second_mirror_serves_and_is_asked_first_from_then_on(
    tiny, mirrors, monkeypatch, behaviour
):
    mirrors.use(monkeypatch, behaviour, "good")
    tiny.check(datasets.load("mnist"))
    assert mirrors.requests == [(behaviour, NAMES[0])] + [("good", name) for name in NAMES]


@pytest.mark.parametrize(
    ("shape", "extra", "reason"),
    [
        ((2**32 - 1,) * 3, 0, "the header must give the shape"),
        ((20, 4, 5), 0, "the header must give the shape"),
        ((20, 4, 4), 32 << 20, "promises 320 bytes of data, more follow"),
    ],
    ids=["claims too much", "claims more", "gzip bomb"],
)
def test_file_that_lies_with_the_right_checksum(
    tiny, mirrors, monkeypatch, user_cache, shape, extra, reason
):
    lie = pack(idx_bytes(tiny.arrays[0], shape) + bytes(extra))
    mirrors.packed[NAMES[0]] = lie
    tiny.know_md5_of(mirrors.packed)
    mirrors.use(monkeypatch, "good")
    with pytest.raises(DatasetNotFoundError, match=f"{NAMES[0]}: .*{reason}"):
        datasets.load("mnist")
    assert files_in(user_cache) == []

    mirrors.packed = dict(tiny.packed)
    tiny.know_md5_of(tiny.packed)
    tiny.check(datasets.load("mnist"))


def test_what_is_there_is_not_fetched_again(tiny, mirrors, monkeypatch, user_cache):
    tiny.write(user_cache / "mnist", plain=True)
    (user_cache / "mnist" / NAMES[2].removesuffix(".gz")).unlink()
    mirrors.use(monkeypatch, "good")
    tiny.check(datasets.load("mnist"))
    assert mirrors.requests == [("good", NAMES[2])]


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX's")
@pytest.mark.parametrize("behaviour", ["good", "corrupt"])
def test_a_link_in_the_place_of_a_file_is_not_followed(
    behaviour, tiny, mirrors, monkeypatch, user_cache, tmp_path
):
    """It leads to where somebody would like a file to be written."""
    (user_cache / "mnist").mkdir(parents=True)
    (user_cache / "mnist" / NAMES[0]).symlink_to(tmp_path / "outside")
    mirrors.use(monkeypatch, behaviour)
    if behaviour == "good":
        tiny.check(datasets.load("mnist"))
        assert not any((user_cache / "mnist" / name).is_symlink() for name in NAMES)
    else:
        with pytest.raises(DatasetNotFoundError, match="wrong MD5 checksum"):
            datasets.load("mnist")
    assert os.listdir(tmp_path) == ["cache"]


def test_failure_halfway_keeps_the_whole_files_only(tiny, mirrors, monkeypatch, user_cache):
    mirrors.packed[NAMES[2]] = tiny.packed[NAMES[2]][:-1]
    mirrors.use(monkeypatch, "good")
    with pytest.raises(DatasetNotFoundError, match=rf"mnist \(lacks {NAMES[2]}, {NAMES[3]}\)"):
        datasets.load("mnist")
    assert files_in(user_cache) == sorted(NAMES[:2])


def test_the_error_says_what_was_tried_and_where_to_put_the_files(
    tiny, mirrors, monkeypatch, user_cache, tmp_path
):
    mirrors.use(monkeypatch, "absent", "corrupt")
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "data"))
    with pytest.raises(DatasetNotFoundError) as caught:
        datasets.load("mnist", tmp_path)
    assert str(caught.value).splitlines() == [
        "mnist was not found; looked in",
        f"  {tmp_path}/mnist",
        f"  {tmp_path}",
        f"  {tmp_path}/data/mnist",
        f"  {tmp_path}/data",
        f"  {user_cache}/mnist",
        f"  {user_cache}",
        "could not be downloaded; tried",
        f"  http://127.0.0.1:{mirrors.server.server_port}/absent/mnist/{NAMES[0]}: HTTP status 404",
        f"  http://127.0.0.1:{mirrors.server.server_port}/corrupt/mnist/{NAMES[0]}: "
        "wrong MD5 checksum",
        f"put {', '.join(NAMES)} into {user_cache}/mnist, "
        "or into a folder that data_dir or FASTMLP_DATA names",
    ]


def test_nobody_listens(tiny, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("FASTMLP_MIRRORS", f"http://127.0.0.1:{free.getsockname()[1]} ftp://x")
        with pytest.raises(DatasetNotFoundError, match="Connection refused") as caught:
            datasets.load("mnist")
    assert "No connection adapters" in str(caught.value)


def test_name_server_that_does_not_answer(tiny, monkeypatch, user_cache):
    answer = threading.Event()

    def getaddrinfo(*args, **kwargs):
        answer.wait()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(_download, "SILENCE", 0.4)
    monkeypatch.setenv("FASTMLP_MIRRORS", "http://one.invalid http://two.invalid")
    try:
        with pytest.raises(DatasetNotFoundError, match=r"one.*no data for 0\.2 s\n.*two.*no data"):
            datasets.load("mnist")
        assert files_in(user_cache) == []
    finally:
        answer.set()


def test_the_known_mirrors_are_used_unless_others_are_named(monkeypatch):
    known = IDX_SETS["fashion-mnist"]
    assert _download.mirrors("fashion-mnist", known) == list(known.mirrors)
    assert all(base.endswith("/") for kind in IDX_SETS.values() for base in kind.mirrors)
    monkeypatch.setenv("FASTMLP_MIRRORS", "http://a/b/  http://c")
    assert _download.mirrors("fashion-mnist", known) == [
        "http://a/b/fashion-mnist/",
        "http://c/fashion-mnist/",
    ]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_silent_mirrors_are_waited_for_ten_seconds_in_all(monkeypatch, name):
    waited = []

    def run(transfer, url, file, staging, silence):
        waited.append(silence)
        return "no data"

    monkeypatch.setattr(_download._Transfer, "run", run)
    with pytest.raises(DatasetNotFoundError, match="no data"):
        datasets.load(name)
    assert len(waited) == len(IDX_SETS[name].mirrors) > 1
    assert sum(waited) <= 10


def test_cache_that_cannot_be_written(tiny, mirrors, monkeypatch, user_cache):
    mirrors.use(monkeypatch, "good")
    user_cache.parent.mkdir()
    user_cache.write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match="mnist: cannot be written"):
        datasets.load("mnist")


def test_a_disk_that_is_full(tiny, mirrors, monkeypatch, user_cache):
    """Said at once: other mirrors would not help."""
    mirrors.use(monkeypatch, "good", "good")
    tries = []

    def fill(*arguments, **options):
        tries.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.retrieve", fill)
    with pytest.raises(DatasetError, match=r"mnist: cannot be written: .*No space left") as caught:
        datasets.load("mnist")
    assert str(user_cache / "mnist") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(tries) == 1


@pytest.mark.parametrize("package", ["pooch", "tqdm"])
def test_without_the_extra(tiny, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DatasetNotFoundError, match=rf"{package}: it comes with the extra 'data'"):
        datasets.load("mnist", progress=True)


def test_progress_bar(tiny, mirrors, monkeypatch, capfd):
    shown = []

    class Bar:
        def __init__(self, desc, **options):
            self.entry = {"desc": desc, "total": 0, "n": 0}

        def update(self, n):
            self.entry.update(total=self.total, n=self.entry["n"] + n)

        def reset(self, total):
            self.total, self.entry["n"] = total, 0

        def close(self):
            shown.append(self.entry)

    mirrors.use(monkeypatch, "good")
    monkeypatch.setattr("tqdm.tqdm", Bar)
    datasets.load("mnist", progress=True)
    sizes = {name: len(tiny.packed[name]) for name in NAMES}
    assert shown == [{"desc": name, "total": sizes[name], "n": sizes[name]} for name in NAMES]


def test_progress_bar_is_not_drawn_where_there_is_no_terminal(tiny, mirrors, monkeypatch, capfd):
    mirrors.use(monkeypatch, "good")
    datasets.load("mnist", progress=True)
    assert capfd.readouterr() == ("", "")


def test_nothing_that_downloads_is_imported_with_the_module():
    code = (
        "import sys, fastmlp.datasets as d; d.load('digits'); d.available();"
        "assert not {'pooch', 'requests', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
