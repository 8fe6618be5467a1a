"""`authsec-server verify-audit`: reads the whole audit, and names the first entry that is not what was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from authsec_core._clock import Clock
from authsec_server.audit.integrity import Report
from authsec_server.audit.verify import verify_database
from authsec_server.authority import database_of
from authsec_server.cli._arguments import Arguments
from authsec_server.cli._database import look
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
    exported, missing = (arguments.checkpoints, ()) if arguments.checkpoints else _exported(settings)
    database = database_of(settings, clock)
    try:
        if (await look(database)).made_by_dev is None:
            raise ConflictError("the database was not initialised: there is no audit in it")
        report = await verify_database(
            database,
            checkpoint_files=exported,
            jwks_files=arguments.jwks,
            progress=notify,
            clock=clock,
        )
    finally:
        await database.close()
    return _good(replace(report, notes=(*report.notes, *missing)) if report.entries else report)


def _exported(settings: ServerSettings) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the file that the settings name, if it is there, and else what to say of that.

    What is there and cannot be read is for `verify_database` to refuse.
    """
    path = settings.checkpoint_file
    if path is None:
        return (), ()
    try:
        gone = path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        gone = True
    except OSError:
        gone = False
    if not gone:
        return (path,), ()
    # Whether the database says that some were written does not matter: who deletes the file can empty the table.
    return (), (
        f"the exported checkpoints in {path} are missing: the audit was held against those in the database only; if a "
        "server has run on it, find out who removed the file, or name its copy with --checkpoint",
    )


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
