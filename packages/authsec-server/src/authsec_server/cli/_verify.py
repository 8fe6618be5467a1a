"""`authsec-server verify-audit`: reads the whole audit, and names the first entry that is not what was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from authsec_core._clock import Clock
from authsec_server.audit.integrity import Report
from authsec_server.audit.verify import verify_database
from authsec_server.cli._arguments import Arguments
from authsec_server.cli._database import database_of, look
from authsec_server.cli._outcome import Outcome, Sheet
from authsec_server.errors import ConflictError
from authsec_server.settings import ServerSettings

__all__ = ["verify_audit"]


async def verify_audit(
    arguments: Arguments, settings: ServerSettings, clock: Clock, notify: Callable[[int, int], None]
) -> Outcome:
    """Check the audit, also while servers write to it.

    Raises:
        DamagedAuditError: With the first bad entry.
        ConflictError: The database was not initialised.
        ConfigurationError: A file cannot be read.
    """
    database = database_of(settings, clock)
    try:
        if (await look(database)).made_by_dev is None:
            raise ConflictError("the database was not initialised: there is no audit in it")
        report = await verify_database(
            database,
            checkpoint_files=arguments.checkpoints or _exported(settings),
            jwks_files=arguments.jwks,
            progress=notify,
            clock=clock,
        )
    finally:
        await database.close()
    return _good(report)


def _exported(settings: ServerSettings) -> tuple[Path, ...]:
    path = settings.checkpoint_file
    return (path,) if path is not None and path.is_file() else ()


def _good(report: Report) -> Outcome:
    rows = (
        ("entries", str(report.entries)),
        ("last entry", str(report.last_seq)),
        ("its hash", report.last_hash),
        ("vouched for by checkpoints", f"{report.checkpoints}, up to entry {report.last_checkpoint}"),
        ("seconds", f"{report.seconds:.1f}"),
        *(("note", note) for note in report.notes),
    )
    document = {"status": "success", **asdict(report), "notes": list(report.notes)}
    return Outcome(document=document, sheets=(Sheet(columns=("audit", ""), rows=rows),), said="no entry was changed")
