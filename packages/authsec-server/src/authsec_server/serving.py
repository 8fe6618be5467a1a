"""How uvicorn serves the authority: the one place that says so, for the command and for tests."""

from __future__ import annotations

import logging
from typing import Any

import uvicorn
from fastapi import FastAPI

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_server.protocol import ConnectionLimits, Door, http_protocol
from authsec_server.settings import ServerSettings
from authsec_server.telemetry.observer import UNOBSERVED, Observer

__all__ = ["uvicorn_config"]

_log = logging.getLogger("authsec.server")


def uvicorn_config(
    app: FastAPI, settings: ServerSettings, *, last_requests: int, clock: Clock = SYSTEM_CLOCK, **more: Any
) -> uvicorn.Config:
    """Return the configuration of a server for what `create_app` returned; its socket is for the caller.

    Args:
        last_requests: Seconds that running requests are given when it is stopped.
        clock: For tests.
        more: Of `uvicorn.Config`.
    """
    if settings.behind_proxy and not settings.trusted_proxies:
        _log.warning(
            "no proxy is trusted, so that everyone seems to come from its address and shares its limits: name it in "
            "AUTHSEC_SERVER_TRUSTED_PROXIES"
        )
    observer: Observer = getattr(app.state, "metrics", UNOBSERVED)
    door = Door(ConnectionLimits.of(settings), clock=clock, closed=observer.connection_closed)
    observer.watch("connections", lambda: door.open)
    return uvicorn.Config(
        app,
        http=http_protocol(door),
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the middleware looks at them, and believes only whom the settings name
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        timeout_graceful_shutdown=last_requests,
        **more,
    )
