"""What `serve --dev` makes before it serves: an authority, and an agent to try it out with.

What is there already is not made anew, and what was not made by `--dev` is not touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

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
from authsec_server.pages import Cursor, Paging
from authsec_server.settings import ServerSettings

__all__ = ["TryOut", "prepare"]

_AGENT: Final = "sample-agent"
_KIND: Final = "autogen-agent"
_ROLE: Final = "analyst"
_PERMISSIONS: Final = ("read:metrics", "read:records")


@dataclass(frozen=True, slots=True, kw_only=True)
class TryOut:
    """What there is to try out.

    Attributes:
        admin_token: Of the first admin, where it was made just now.
        client_id: Of the sample agent.
    """

    admin_token: Secret | None
    client_id: str


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
        return TryOut(admin_token=admin_token, client_id=await _sample(authority))


async def _initialise(settings: ServerSettings, clock: Clock) -> Secret | None:
    make_master_key(settings)
    try:
        return Secret((await initialise(settings, clock=clock)).text())
    except ConflictError:  # someone was quicker, and was shown the token
        return None


async def _sample(authority: Authority) -> str:
    caller = system_caller("serve --dev")
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
    found: list[Client] = []
    after: Cursor | None = None
    while True:
        page = await authority.agents.list(Paging(limit=200, after=after))
        found += [client for client in page.items if re.fullmatch(rf"{_AGENT}(-\d+)?", client.name)]
        if page.next is None:
            return found
        after = Cursor.decode(page.next)
