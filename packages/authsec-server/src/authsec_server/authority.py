"""The authority without HTTP: its parts, put together from the settings, and what they do by themselves in time.

A composition root: it decides nothing, and whatever needs the database, the master key or the pepper gets it here.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import AuthSecError, ConfigurationError
from authsec_server.agents.service import Agents
from authsec_server.audit.chain import GENESIS
from authsec_server.audit.checkpoints import Checkpoints
from authsec_server.audit.entry import Actor, Caller
from authsec_server.audit.ledger import Ledger
from authsec_server.audit.log import AuditLog
from authsec_server.credentials import Credential, Pepper
from authsec_server.db import migrate, tables
from authsec_server.db.engine import Database
from authsec_server.delegations.roles import Roles
from authsec_server.delegations.service import Delegations
from authsec_server.errors import ConflictError, StorageUnavailableError, UnsafeSettingsError
from authsec_server.issuers.registry import Registry
from authsec_server.issuers.rules import Own
from authsec_server.issuers.service import Issuers
from authsec_server.issuers.tokens import ForeignTokens
from authsec_server.keys.keyring import Keyring
from authsec_server.keys.masterkey import MAKE_ONE, PUT_BACK, parse_master_keys
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.rotation import Timing
from authsec_server.keys.sealing import PEPPER, require_kept, seal, unseal
from authsec_server.keys.service import SigningKeys
from authsec_server.limits.service import Limits
from authsec_server.limits.shared import SharedLimits
from authsec_server.operators.admission import recheck
from authsec_server.operators.service import Operators
from authsec_server.settings import ServerSettings
from authsec_server.telemetry.observer import UNOBSERVED, Observer
from authsec_server.tokens.issue import Issuing, TokenService
from authsec_server.tokens.own import OwnTokens
from authsec_server.tokens.policy import Caps
from authsec_server.tokens.service import PURGED_AT_ONCE, TokenRecords
from authsec_server.tokens.status import StatusLists
from authsec_server.tokens.withdraw import Withdrawals
from authsec_server.vault.access import AgentAccess
from authsec_server.vault.account import Accounts
from authsec_server.vault.agents import VaultAgents
from authsec_server.vault.approvers import Approvers
from authsec_server.vault.asking import Asking
from authsec_server.vault.envelope import Envelope
from authsec_server.vault.issuing import TokenLimits
from authsec_server.vault.secrets import Secrets
from authsec_server.vault.tokens import VaultTokens
from authsec_server.vault.trail import Trail

__all__ = ["SYSTEM", "Authority", "database_of", "initialise", "system_caller"]

_TICK: Final = 1.0  # seconds between two looks at what is due
_PURGE_EVERY: Final = 60.0  # seconds
_LOOK_EVERY: Final = 60.0  # seconds between two looks at the master key's file
_CLOCKS_DIFFER: Final = 60.0  # seconds, at most, between replicas and verifiers
_MADE_BEFORE: Final = "the database was initialised before: nothing was changed; grant-admin makes new tokens"
SYSTEM: Final = Actor(kind="system", id="authsec-server", name="authsec-server")

_log = logging.getLogger("authsec.server")


def database_of(settings: ServerSettings, clock: Clock, observer: Observer = UNOBSERVED) -> Database:
    """Return the database that the settings name, unopened."""
    return Database(
        settings.database_url.get_secret_value(),
        clock=clock,
        timeout=settings.database_timeout,
        pool_size=settings.pool_size,
        failed=observer.database_failed,
    )


def system_caller(what: str) -> Caller:
    """Return the caller that stands in the audit for what the authority does by itself."""
    return Caller(actor=SYSTEM, request_id=what)


class Authority:
    """One authority at work. Have it from `open`; for one event loop."""

    def __init__(
        self,
        settings: ServerSettings,
        database: Database,
        *,
        masters: MasterKeys,
        pepper: Pepper,
        clock: Clock,
        observer: Observer = UNOBSERVED,
    ) -> None:
        caps = Caps(
            default_audience=settings.default_audience,
            default_ttl=settings.token_ttl,
            max_ttl=settings.max_token_ttl,
        )
        issuing = Issuing(issuer=settings.issuer, tenant_id=settings.tenant_id, caps=caps)
        self.settings: Final = settings
        self.caps: Final = caps
        self.clock: Final = clock
        self.database: Final = database
        self.masters: Final = masters
        self.pepper: Final = pepper
        self.observer: Final = observer
        self.limits: Final = _limits(settings, clock, observer)
        self.shared_limits: Final = SharedLimits(database, self.limits, clock=clock)
        self.ledger: Final = Ledger(database, clock=clock, recheck=recheck, observer=observer)
        self.keyring: Final = Keyring(database, masters, tenant_id=settings.tenant_id, clock=clock, observer=observer)
        self.keys: Final = SigningKeys(
            self.ledger,
            database,
            masters=masters,
            keyring=self.keyring,
            timing=_timing(settings),
            tenant_id=settings.tenant_id,
            bits=settings.signing_key_bits,
            clock=clock,
        )
        self.agents: Final = Agents(
            self.ledger,
            database,
            pepper=pepper,
            trust_domain=settings.trust_domain,
            tenant_id=settings.tenant_id,
        )
        self.roles: Final = Roles(self.ledger, database)
        self.delegations: Final = Delegations(self.ledger, database, default_audience=settings.default_audience)
        registry, own = Registry(database, clock=clock), Own(issuer=settings.issuer, jwks_url=settings.jwks_url)
        self.issuers: Final = Issuers(self.ledger, database, registry, own=own)
        self.foreign: Final = ForeignTokens(registry, ca_file=settings.issuer_ca_file, clock=clock)
        self.operators: Final = Operators(self.ledger, database, pepper=pepper, clock=clock, limits=self.limits)
        self.tokens: Final = TokenService(self.ledger, self.keyring, issuing, limits=self.limits)
        self.own_tokens: Final = OwnTokens(self.ledger, database, self.keyring, issuer=settings.issuer, clock=clock)
        self.token_records: Final = TokenRecords(self.ledger, database, caps=caps, clock=clock)
        self.status_lists: Final = StatusLists(
            database, self.keyring.active(), issuer=settings.issuer, clock=clock, ttl=settings.status_list_ttl
        )
        self.vault: Final = Asking(self.ledger, database, pepper=pepper, limits=self.limits)
        self.secrets: Final = Secrets(self.vault, database, Envelope(masters, tenant=settings.tenant_id))
        self.vault_access: Final = AgentAccess(self.ledger, database)
        self.vault_tokens: Final = VaultTokens(
            self.vault,
            self.ledger,
            limits=TokenLimits(
                max_ttl=settings.max_vault_token_ttl,
                critical_delay=settings.critical_delay,
                approval_lifetime=settings.approval_lifetime,
            ),
        )
        self.approvers: Final = Approvers(self.ledger, database, clock=clock)
        self.vault_agents: Final = VaultAgents(self.agents, database)
        self.vault_accounts: Final = Accounts(self.vault, database)
        self.vault_trail: Final = Trail(database)
        self.audit: Final = AuditLog(database)
        self.checkpoints: Final = Checkpoints(
            database,
            self.keyring.active(),
            issuer=settings.issuer,
            file=settings.checkpoint_file,
            interval=settings.checkpoint_interval,
            clock=clock,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: ServerSettings, *, clock: Clock = SYSTEM_CLOCK, observer: Observer = UNOBSERVED
    ) -> AsyncIterator[Authority]:
        """Lend an authority that runs on a database which was made before.

        Raises:
            ConfigurationError: The database is not initialised, or of another tenant or a release that this one cannot
                follow; or the master key is missing or not the one that sealed it.
            UnsafeSettingsError: It was made by `--dev`, and this is production; or the other way round.
            StorageUnavailableError: The database cannot be reached.
        """
        database = database_of(settings, clock, observer)
        try:
            row = await _server_row(database)
            _check_server(row, settings)
            masters = _master_keys(settings, otherwise=PUT_BACK)
            pepper = Pepper(
                unseal(masters, purpose=PEPPER, identifier=PEPPER, tenant=row.tenant_id, sealed=bytes(row.pepper))
            )
            authority = cls(settings, database, masters=masters, pepper=pepper, clock=clock, observer=observer)
            authority.ledger.start()
            observer.watch("ledger_waiting", lambda: authority.ledger.waiting)
            try:
                yield authority
            finally:
                await authority.ledger.close()
                authority.keyring.close()
        finally:
            await database.close()

    async def run_chores(self) -> None:
        """Do what is due, until cancelled: rotate signing keys, write checkpoints, forget tokens that ended, and more.

        Every replica may run it; of several that try the same, one does it. What fails is logged and tried again.
        """
        chores = [
            _Chore("signing keys", _TICK, lambda: self.keys.run_schedule(system_caller("schedule"))),
            _Chore("checkpoint", _TICK, self.checkpoints.write_if_due),
            _Chore("withdrawals", _TICK, Withdrawals(self.database, self.ledger).finish),
            _Chore("purge", _PURGE_EVERY, self._purge),
            _Chore("master key", _LOOK_EVERY, self._look_at_master_key),
            _Chore("metrics", _TICK, self.observer.look),
        ]
        if self.settings.shared_limits:
            chores += [
                _Chore("limits", _TICK, self.shared_limits.exchange),
                _Chore("full buckets", _PURGE_EVERY, self.shared_limits.purge),
            ]
        while True:
            for chore in chores:
                await chore.run_if_due(self.clock, self.observer)
            await self.clock.asleep(_TICK)

    async def _purge(self) -> None:
        for purge in (self.token_records.purge, self.vault_tokens.purge):
            while await purge() >= PURGED_AT_ONCE:
                pass  # requests had their turn in between
        await self.database.clear_log()

    async def _look_at_master_key(self) -> None:
        """Notice a file that was replaced by mistake while its key is still in memory, not when a server starts."""
        async with self.database.read() as connection:
            await require_kept(connection, self.masters)

    async def ready(self) -> dict[str, bool]:
        """Return what has to hold for requests to be answered, and whether it does. Costs two or three queries."""
        found = {"database": False, "migrations": False, "signing_key": False, "ledger": self.ledger.is_running}
        with suppress(AuthSecError):
            found["migrations"] = await migrate.suits(self.database)
            found["database"] = True
            found["signing_key"] = await self.keyring.has_active()
        return found


class _Chore:
    def __init__(self, name: str, every: float, work: Callable[[], Awaitable[Any]]) -> None:
        self._name, self._every, self._work = name, every, work
        self._done_at: float | None = None

    async def run_if_due(self, clock: Clock, observer: Observer) -> None:
        if self._done_at is not None and clock.steady() - self._done_at < self._every:
            return
        self._done_at = clock.steady()
        try:
            await self._work()
        except (StorageUnavailableError, ConfigurationError) as exc:  # again and again, and a traceback says no more
            _log.warning("the chore %s will be tried again: %s", self._name, exc.message)
            observer.chore_failed(self._name)
        except Exception:  # noqa: BLE001 -- one chore that fails must end neither the others nor itself
            _log.exception("the chore %s failed and will be tried again", self._name)
            observer.chore_failed(self._name)


async def initialise(
    settings: ServerSettings,
    *,
    admin_name: str = "admin",
    clock: Clock = SYSTEM_CLOCK,
) -> Credential:
    """Make a new authority in an empty database, and return its first admin's token, which is shown this once.

    Migrates, makes the pepper and the first signing key, and the admin. The master key has to be there already.

    Raises:
        ConflictError: It was initialised before. Nothing was changed.
        ConfigurationError: The master key is missing or unsafe.
        StorageUnavailableError: The database cannot be reached.
    """
    masters = _master_keys(settings, otherwise=MAKE_ONE)
    database = database_of(settings, clock)
    try:
        await _refuse_if_made(database)
        await migrate.upgrade(database)
        await _make_server(database, settings, masters, clock)
    finally:
        await database.close()
    async with Authority.open(settings, clock=clock) as authority:
        caller = system_caller("init")
        key = await authority.keys.prepare(caller)
        await authority.keys.activate(caller, key.kid, at_once=True)
        return await authority.operators.grant_admin(caller, admin_name)


async def _refuse_if_made(database: Database) -> None:
    """Look before migrating: a database that is in use must not be touched."""
    if await migrate.current(database) is not None:
        async with database.read() as connection:
            if (await connection.execute(sa.select(tables.server.c.id))).one_or_none() is not None:
                raise ConflictError(_MADE_BEFORE)


async def _make_server(database: Database, settings: ServerSettings, masters: MasterKeys, clock: Clock) -> None:
    pepper = seal(
        masters.first,
        purpose=PEPPER,
        identifier=PEPPER,
        tenant=settings.tenant_id,
        plaintext=secrets.token_bytes(32),
    )

    async def work(connection: AsyncConnection) -> None:
        if (await connection.execute(sa.select(tables.server.c.id))).one_or_none() is not None:
            raise ConflictError(_MADE_BEFORE)
        await connection.execute(
            sa.insert(tables.server).values(
                id=1,
                tenant_id=settings.tenant_id,
                made_by_dev=settings.dev,
                pepper=pepper,
                created_at=clock.wall(),
            )
        )
        await connection.execute(
            sa.insert(tables.head).values(id=1, seq=0, hash=GENESIS, policy_version=0, next_index=0)
        )

    await database.write(work)


async def _server_row(database: Database) -> Any:
    await migrate.require_shape(database)
    async with database.read() as connection:
        row = (await connection.execute(sa.select(tables.server))).one_or_none()
    if row is None:
        raise ConfigurationError("the database was not initialised: run authsec-server init")
    return row


def _check_server(row: Any, settings: ServerSettings) -> None:
    if row.tenant_id != settings.tenant_id:
        raise ConfigurationError("the database belongs to another tenant: mend AUTHSEC_SERVER_TENANT_ID")
    if row.made_by_dev and not settings.dev:
        raise UnsafeSettingsError(
            "this database was made by serve --dev, and its agents and keys are for trying out: run authsec-server "
            "init on a new one"
        )
    if settings.dev and not row.made_by_dev:
        raise UnsafeSettingsError(
            "this database was not made by --dev: bare client ids would open it; serve without it"
        )


def _master_keys(settings: ServerSettings, *, otherwise: str) -> MasterKeys:
    if settings.master_key is not None:
        return MasterKeys(parse_master_keys(settings.master_key.get_secret_value(), otherwise=otherwise))
    if settings.master_key_file is None:
        raise ConfigurationError("set AUTHSEC_SERVER_MASTER_KEY_FILE or AUTHSEC_SERVER_MASTER_KEY")
    return MasterKeys.read(settings.master_key_file, otherwise=otherwise)


def _limits(settings: ServerSettings, clock: Clock, observer: Observer) -> Limits:
    return Limits(
        client_rate=settings.client_rate,
        refusal_rate=settings.refusal_rate,
        clock=clock,
        notes=settings.shared_limits,
        limited=observer.limited,
    )


def _timing(settings: ServerSettings) -> Timing:
    return Timing(
        jwks_max_age=settings.jwks_max_age,
        longest_ttl=settings.max_token_ttl,
        lifetime=settings.signing_key_lifetime,
        leeway=_CLOCKS_DIFFER,
    )
