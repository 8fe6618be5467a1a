"""From what was seen of the vault to findings, and whom a doctor asks for them. It decides nothing about the network.

The credential goes where every command sends it, and is not sent where the vault was not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from authsec_core._origin import origin_of
from authsec_core.cli._checks import BEHIND, check_tls, skipped
from authsec_core.cli._observed import Contact, reason
from authsec_core.cli._outcome import Finding
from authsec_core.token import Secret
from authsec_core.vault_config import VaultConfig
from authsec_core.wire import WireError, is_plain, json_object

__all__ = ["VAULT_CHECKS", "VaultAsked", "vault_findings"]

VAULT_CHECKS: Final = ("vault", "vault_tls", "vault_credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAsked:
    """The vault that these settings mean, and what is shown to it."""

    config: VaultConfig

    @property
    def variable(self) -> str:
        """The setting that says where the vault is."""
        return self.config.address_variable

    @property
    def credential(self) -> Secret | None:
        """What is shown: a vault token goes before the agent's key."""
        held = self.config.token or self.config.key
        return None if held is None else Secret(held.get_secret_value())

    @property
    def called(self) -> str:
        """What that is called, and where it came from."""
        if self.config.token is not None:
            return "the vault token of AUTHSEC_VAULT_TOKEN"
        return f"the agent's key, which was given for {origin_of(self.config.address)}"


def vault_findings(
    asked: VaultAsked, knock: Callable[[str, Secret | None], Contact], now: Callable[[], float]
) -> Iterator[Finding]:
    """Yield one finding for each of the vault's checks.

    Args:
        knock: GETs an address of the vault, with the credential that is named.
        now: Epoch seconds.
    """
    health = knock(f"{asked.config.address}/v1/health", None)
    if health.status == 404 and asked.config.vault_url is None:
        yield from (skipped(check, "this authority has no vault") for check in VAULT_CHECKS)
        return
    yield _health(asked, health)
    yield check_tls("vault_tls", asked.variable, [health], now=now())
    if health.unreached:
        yield skipped("vault_credential", "the vault was not reached")
    elif asked.credential is None:
        yield skipped("vault_credential", asked.config.keyless)
    else:
        yield _credential(asked, knock(f"{asked.config.address}/v1/me", asked.credential))


def _health(asked: VaultAsked, contact: Contact) -> Finding:
    origin = origin_of(contact.url)
    if contact.status == 200 and contact.trouble is None:
        return Finding(check="vault", status="ok", message=f"{origin} answers")
    if contact.status is not None:
        mend = f"check that {asked.variable} is the vault's root, or ask its operator"
        return _fail("vault", f"{origin} answers, but its health is status {contact.status}", mend)
    if contact.trouble == "tls":
        return _fail("vault", f"{origin} is there, but no safe connection came about", "see vault_tls")
    why = BEHIND.get(contact.trouble or "") or reason(contact.cause)
    return _fail(
        "vault", f"{origin} cannot be reached: {why}", f"check {asked.variable}, and that the vault is running"
    )


def _credential(asked: VaultAsked, contact: Contact) -> Finding:
    check = "vault_credential"
    if contact.status in {401, 403}:
        mend = "issue another token" if asked.config.token is not None else "have the agent's operator make another key"
        return _fail(check, f"the vault refuses {asked.called} ({contact.status})", mend)
    if contact.status != 200 or contact.trouble is not None:
        why = contact.trouble or f"status {contact.status}"
        return _fail(check, f"the vault did not say whose it is ({why})", "try again later, and ask its operator")
    try:
        name = json_object(contact.body, "the reply").get("name")
    except WireError:
        name = None
    known = f": it is {name}'s" if isinstance(name, str) and name and is_plain(name) else ""
    return Finding(check=check, status="ok", message=f"the vault takes {asked.called}{known}")


def _fail(check: str, message: str, mend: str) -> Finding:
    return Finding(check=check, status="fail", message=message, mend=mend)
