"""A route of FastAPI or Starlette that keeps nothing, for comparison. Arguments: which one, and its path."""

import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.routing import Route

which, path = sys.argv[1:]
key = generate_private_key(public_exponent=65537, key_size=2048)


async def bare(request: Request) -> Response:
    """Answer next to nothing."""
    return Response(b'{"token":"none"}', media_type="application/json")


async def signed(request: Request) -> Response:
    """Answer with a token that was signed for it, as PyJWT does it with a key object."""
    now = int(time.time())
    claims = {"iss": "http://127.0.0.1", "sub": "agent", "iat": now, "exp": now + 3600, "scope": "read:metrics"}
    token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "1"})
    return Response(json.dumps({"token": token}), media_type="application/json")


def application(handler: Callable[[Request], Awaitable[Response]]) -> FastAPI | Starlette:
    """Return the application with this one route."""
    if which.startswith("starlette"):
        return Starlette(routes=[Route(path, handler)])
    app = FastAPI()
    app.get(path)(handler)
    return app


with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    app = application(signed if which.endswith("signed") else bare)
    config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", ws="none")
    uvicorn.Server(config).run(sockets=[listener])
