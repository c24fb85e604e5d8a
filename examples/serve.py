"""A network that answers over HTTP: ``python examples/serve.py model.safetensors --port 8000``.

``POST /predict`` takes up to 64 rows and answers ``{"predictions": [...]}``, what ``MLP.predict``
says of each. Its body is JSON, a list of numbers or a list of such lists; or, quicker to read, the
rows' bytes as ``application/octet-stream``: little-endian float32, or uint8 with ``?dtype=uint8``.
What cannot be predicted is answered with status 422 and the reason. ``GET /health`` says which
network it is. Needs the extra ``serve``; without a file a small network learns digits first.
"""

from __future__ import annotations

import argparse
import socket

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic_core import from_json

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy, datasets
from fastmlp.initializers import he_normal, zeros
from fastmlp.validation import check_all_finite, check_choice

MOST_ROWS = 64
BINARY = {"float32": "<f4", "uint8": "u1"}


def small_network() -> MLP:
    """64-32-10, trained on the digits inside the package: a second."""
    data = datasets.load("digits")
    activations = [ReLU(), Identity()]
    mlp = MLP(64, 10, [32], activations, he_normal(0), zeros, SoftmaxCrossEntropy(), lr=0.1)
    mlp.fit(data.train_x, data.train_y, epochs=20, batch_size=32, seed=0)
    return mlp


def rows_in_json(body: bytes) -> np.ndarray:
    """Numbers as float32, (N, D) from a list of lists, (1, D) from a list."""
    # FastAPI's own parser: Python's takes 5 to 8 times as long for 784 numbers.
    return np.atleast_2d(np.array(from_json(body), np.float32))


def rows_in_bytes(body: bytes, dtype: str, columns: int) -> np.ndarray:
    """(N, columns) numbers, one after the other."""
    numbers = np.frombuffer(body, BINARY[check_choice("dtype", dtype, tuple(BINARY))])
    if len(numbers) % columns:
        raise ValueError(f"x must be rows of {columns} numbers, got {len(numbers)} numbers")
    return numbers.reshape(-1, columns)


def make_app(mlp: MLP) -> FastAPI:
    """The application, for any server of ASGI applications."""
    app = FastAPI(title="fastmlp")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"network": repr(mlp)}

    # It predicts where it is called, in the event loop: a row of 784-512-512-10 takes 35 µs, about
    # as long as it would take to hand it to another thread, and MOST_ROWS some 10 times as long,
    # which other requests can wait for.
    @app.post("/predict")
    async def predict(request: Request, dtype: str = "float32") -> JSONResponse:
        body = await request.body()
        try:
            if request.headers.get("content-type") == "application/octet-stream":
                x = rows_in_bytes(body, dtype, mlp.input_size)
            else:
                x = rows_in_json(body)
            if not 1 <= len(x) <= MOST_ROWS:
                raise ValueError(f"x must have 1 to {MOST_ROWS} rows, got {len(x)}")
            check_all_finite("x", x)
            return JSONResponse({"predictions": mlp.predict(x).tolist()})
        except (ValueError, TypeError) as error:
            return JSONResponse({"detail": str(error)}, status_code=422)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", help="a file that MLP.save wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    arguments = parser.parse_args()
    mlp = MLP.load(arguments.model) if arguments.model else small_network()
    # The first prediction loads compiled code, which no request should wait for.
    mlp.predict(np.zeros((MOST_ROWS, mlp.input_size), np.float32))
    mlp.predict(np.zeros((1, mlp.input_size), np.float32))
    server = uvicorn.Server(uvicorn.Config(make_app(mlp), log_level="warning", access_log=False))
    with socket.create_server((arguments.host, arguments.port)) as listener:
        # asyncio does so for sockets of its own. Otherwise an answer's second packet waits, 40 ms,
        # until the client has acknowledged the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"{mlp} on http://{arguments.host}:{listener.getsockname()[1]}", flush=True)
        server.run([listener])


if __name__ == "__main__":
    main()
