"""What `serve --dev` makes before it serves: an authority, and an agent to try it out with.

What is there already is not made anew, and what was not made by `--dev` is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from authsec_core._clock import Clock
from authsec_core.token import Secret
from authsec_server.agents.values import Client
from authsec_server.authority import Authority, database_of, initialise, system_caller
from authsec_server.cli._database import look
from authsec_server.cli._files import make_data_dir, make_master_key
from authsec_server.db import migrate
from authsec_server.delegations.service import Wanted
from authsec_server.delegations.values import MaxDuration
from authsec_server.errors import ConflictError
from authsec_server.pages import LARGEST_PAGE, Cursor, Page, Paging
from authsec_server.settings import ServerSettings

__all__ = ["TryOut", "prepare"]

_AGENT: Final = "sample-agent"
_KIND: Final = "autogen-agent"
_ROLE: Final = "analyst"
_PERMISSIONS: Final = ("read:metrics", "read:records")
_KEY: Final = "serve --dev"  # the label of the key that is shown

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TryOut:
    """What there is to try out.

    Attributes:
        admin_token: Of the first admin, where it was made just now.
        client_id: Of the sample agent, which may use the whole vault unless somebody has said otherwise.
        agent_key: Its key, until the next start; None where it has as many others as it can have.
    """

    admin_token: Secret | None
    client_id: str
    agent_key: Secret | None


async def prepare(settings: ServerSettings, clock: Clock) -> TryOut:
    """Make what is missing, and bring what is there to the shape that this release needs.

    Raises:
        UnsafeSettingsError: What is there was not made by `--dev`. It is left as it is.
        ConfigurationError: The folder or the database cannot be used.
    """
    make_data_dir(settings)
    database = database_of(settings, clock)
    try:
        found = await look(database)
        found.require_kind(settings)
        if found.made_by_dev is not None:
            await migrate.upgrade(database)
    finally:
        await database.close()
    admin_token = await _initialise(settings, clock) if found.made_by_dev is None else None
    async with Authority.open(settings, clock=clock) as authority:
        client_id = await _sample(authority)
        await _open_vault(authority, client_id)
        return TryOut(admin_token=admin_token, client_id=client_id, agent_key=await _new_key(authority, client_id))


async def _initialise(settings: ServerSettings, clock: Clock) -> Secret | None:
    make_master_key(settings)
    try:
        return Secret((await initialise(settings, clock=clock)).text())
    except ConflictError:  # someone was quicker, and was shown the token
        return None


async def _open_vault(authority: Authority, client_id: str) -> None:
    if (await authority.vault_access.get(client_id)).updated_at is None:
        caller = system_caller(_KEY)
        await authority.vault_access.put(caller, client_id, namespaces=("*",), scopes=("secrets:*:*",))


async def _new_key(authority: Authority, client_id: str) -> Secret | None:
    """Make the key that is shown, in place of the one before it: nobody can be shown that once more."""
    caller = system_caller(_KEY)
    for key in await _every(partial(authority.agents.list_keys, client_id)):
        if key.label == _KEY and key.revoked_at is None:
            await authority.agents.revoke_key(caller, client_id, key.key_id)
    try:
        _, credential = await authority.agents.create_key(caller, client_id, label=_KEY)
    except ConflictError:
        return None
    return Secret(credential.text())


async def _sample(authority: Authority) -> str:
    caller = system_caller(_KEY)
    known = await _samples(authority)
    for client in known:
        if client.state != "revoked":
            return client.client_id
    name = f"{_AGENT}-{len(known) + 1}" if known else _AGENT  # the one before was revoked, which is for good
    if not known:
        await authority.roles.put(caller, _ROLE, _PERMISSIONS)
    client, _ = await authority.agents.onboard(caller, name=name, agent_type=_KIND, platform="docker", selectors={})
    wanted = Wanted(
        role=_ROLE, target_type=_KIND, client_id=client.client_id, duration=MaxDuration(amount=1, unit="hours")
    )
    await authority.delegations.create(caller, wanted)
    return client.client_id


async def _samples(authority: Authority) -> list[Client]:
    """Return the sample agents that were ever made, the revoked ones too."""
    known = await _every(authority.agents.list)
    return [client for client in known if re.fullmatch(rf"{_AGENT}(-\d+)?", client.name)]


async def _every(page_of: Callable[[Paging], Awaitable[Page[T]]]) -> list[T]:
    page = await page_of(Paging(limit=LARGEST_PAGE))
    found = list(page.items)
    while page.next is not None:
        page = await page_of(Paging(limit=LARGEST_PAGE, after=Cursor.decode(page.next)))
        found += page.items
    return found
