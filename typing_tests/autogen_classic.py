"""What the types of `authsec_autogen` say, AutoGen 0.2 having none itself. Checked by `nox -s types` and never run."""

from __future__ import annotations

from typing_extensions import assert_type

from authsec_autogen import (
    AuthSecClient,
    AuthSecConfig,
    fetch_secure_data,
    make_secure_fetch,
    register_secure_fetch,
)
from authsec_autogen.classic import AsyncSecureFetch, AuthSecAutoGenWarning, SecureFetch
from authsec_core import AsyncAuthSecClient


def functions() -> None:
    """Two texts go in and one comes out."""
    assert_type(fetch_secure_data("a", "read:a"), str)
    assert_type(fetch_secure_data(endpoint="a", scope="read:a"), str)
    fetch_secure_data("a")  # type: ignore[call-arg]
    fetch_secure_data("a", ["read:a"])  # type: ignore[arg-type]


async def the_client_decides_what_is_made() -> None:
    """A function for one kind of client, a coroutine function for the other."""
    assert_type(make_secure_fetch(), SecureFetch)
    assert_type(make_secure_fetch(AuthSecClient(AuthSecConfig()), per_call=True, name="fetch"), SecureFetch)
    made = make_secure_fetch(AsyncAuthSecClient())
    assert_type(made, AsyncSecureFetch)
    assert_type(await made("a", "read:a"), str)
    make_secure_fetch("client")  # type: ignore[call-overload]
    make_secure_fetch(AuthSecClient(), True)  # type: ignore[call-overload]


def registration(client: AuthSecClient) -> None:
    """It returns the tool's name, and takes nothing by position."""
    import autogen

    caller = autogen.AssistantAgent("assistant")
    executor = autogen.UserProxyAgent("proxy")
    assert_type(register_secure_fetch(caller=caller, executor=executor), str)
    register_secure_fetch(
        caller=caller, executor=executor, client=client, name="fetch", description="Fetches.", per_call=True
    )
    register_secure_fetch(caller, executor)  # type: ignore[call-arg]
    register_secure_fetch(caller=caller)  # type: ignore[call-arg]
    register_secure_fetch(caller=caller, executor=executor, client="client")  # type: ignore[arg-type]


warning: type[UserWarning] = AuthSecAutoGenWarning
