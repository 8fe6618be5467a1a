"""What is asked of the vault's secrets, before the database answers."""

from __future__ import annotations

from authsec_server import credentials
from authsec_server.vault.policy import Presented
from authsec_server.vault.questions import VaultRequest
from authsec_server.vault.reading import ListQuestion


def test_a_list_makes_nobody_wait() -> None:
    """In the transaction that all others wait for, nothing is looked up but who asks: what is listed is read later."""
    key, pepper = credentials.generate("agent-key"), credentials.Pepper(bytes(32))
    request = VaultRequest(presented=Presented.of(key, pepper, client_id="a", address=None), request_id="r")
    assert ListQuestion(request, "production").wants == ()
