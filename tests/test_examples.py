"""The example server: the application by itself, and the server in a process, under load."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server needs the extra serve")
pytest.importorskip("uvicorn", reason="the server needs the extra serve")
pytest.importorskip("safetensors", reason="files of networks need the extra io")
pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks import serve as load
from tests.examples import example
from tests.networks import build

JSON, BYTES = "application/json", "application/octet-stream"


serve = example("serve")
MLP_OF_FIVE = build([5, 17, 3], dtype=np.float32)
X = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5), np.uint8)


APP = serve.make_app(MLP_OF_FIVE)


def ask(method, path, content=b"", kind=JSON):
    """(status, what the JSON says) that the application answers, by the protocol of ASGI."""
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "query_string": query.encode(), "root_path": "",
        "headers": [(b"content-type", kind.encode())],
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(APP(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message["body"] for message in sent[1:]))


def predictions(x):
    return 200, {"predictions": MLP_OF_FIVE.predict(x).tolist()}


def test_health_says_which_network():
    assert ask("GET", "/health") == (200, {"network": repr(MLP_OF_FIVE)})


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_rows_in_json(rows):
    x = X[:rows]
    assert ask("POST", "/predict", json.dumps(x.tolist()).encode()) == predictions(x)


def test_a_row_by_itself():
    assert ask("POST", "/predict", json.dumps(X[7].tolist()).encode()) == predictions(X[7:8])


@pytest.mark.parametrize(("x", "query"), [(X, ""), (X, "?dtype=float32"), (IMAGES, "?dtype=uint8")])
def test_rows_in_bytes(x, query):
    assert ask("POST", f"/predict{query}", x.tobytes(), BYTES) == predictions(x)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1, 2, 3]", "x must be (N, 5), got (1, 3)"),
        (b"[[[1, 2, 3, 4, 5]]]", "x must be (N, 5), got (1, 1, 5)"),
        (b"[[1, 2, 3, 4, 5], [1, 2]]", "inhomogeneous"),
        (b"[]", "x must be (N, 5), got (1, 0)"),
        (b"[[1, 2, 3, NaN, 5]]", "x[0, 3] must be finite, got nan"),
        (b"[[1, 2, 1e999, 4, 5]]", "x[0, 2] must be finite, got inf"),
        (b'["a", 2, 3, 4, 5]', "could not convert string to float: 'a'"),
        (b'{"x": [1, 2, 3, 4, 5]}', "dict"),
        (b"[1, 2, 3, 4", "EOF while parsing"),
        (b"", "EOF while parsing"),
        (json.dumps([[0] * 5] * 65).encode(), "x must have 1 to 64 rows, got 65"),
    ],
)
def test_json_that_cannot_be_predicted(content, reason):
    status, answer = ask("POST", "/predict", content)
    assert status == 422
    assert reason in answer["detail"]


@pytest.mark.parametrize(
    ("dtype", "content", "reason"),
    [
        ("float32", bytes(17), "buffer size must be a multiple of element size"),
        ("float32", bytes(24), "x must be rows of 5 numbers, got 6 numbers"),
        ("uint8", bytes(7), "x must be rows of 5 numbers, got 7 numbers"),
        ("uint8", b"", "x must have 1 to 64 rows, got 0"),
        ("float64", bytes(40), "dtype must be one of float32, uint8, got 'float64'"),
    ],
)
def test_bytes_that_cannot_be_predicted(dtype, content, reason):
    status, answer = ask("POST", f"/predict?dtype={dtype}", content, BYTES)
    assert status == 422
    assert reason in answer["detail"]


def test_the_small_network_has_learnt():
    data = serve.datasets.load("digits")
    assert serve.small_network().score(data.test_x, data.test_y) > 0.9


def test_a_process_of_its_own_answers_the_load():
    """With the network's own predictions, which ``measure`` compares."""
    mlp = build([784, 17, 10], dtype=np.float32)
    rows = np.random.default_rng(0).integers(0, 256, (20, 784), np.uint8)
    asked = load.Load(rate=100, seconds=0.5, connections=3)
    found = load.measure(mlp, rows, load.BODIES, asked)
    assert [row[0] for row in found] == list(load.BODIES)
    assert {row[2] for row in found} == {"50"}
    heads = load.table(found, asked).splitlines()[0].count("|") - 1
    assert {len(row) for row in found} == {heads}


def test_the_page_has_a_place_for_the_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(load.PAGE.read_text())
    load.rewrite(page, "the table", "served")
    assert "the table" in page.read_text()


def test_a_wrong_answer_is_noticed():
    mlp, other = (build([784, 17, 10], dtype=np.float32, seed=seed) for seed in (0, 1))
    rows = np.random.default_rng(0).integers(0, 256, (20, 784), np.uint8)

    class Mistaken:
        """Expects what another network would answer."""

        save, predict = mlp.save, other.predict

    with pytest.raises(RuntimeError, match=r"^expected .*predictions"):
        load.measure(Mistaken, rows, ["uint8"], load.Load(100, 0.5, 3))
