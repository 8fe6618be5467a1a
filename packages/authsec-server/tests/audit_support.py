"""What the audit's tests share: entries, chained rows, signing keys and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from authsec_core._signing import SigningKey
from authsec_server.audit.chain import GENESIS, chained, columns, sealed_text
from authsec_server.audit.checkpoint_jws import sign_checkpoint
from authsec_server.audit.entry import Actor, Caller, Entry
from authsec_server.audit.integrity import AuditRow, Head
from authsec_server.audit.witnesses import AuditKeys

START = 1_800_000_000.0
ISSUER = "https://authority.example/authsec"
AGENT = "4f0a2a44-1111-4222-8333-444455556666"


def signing_key(number: int = 1) -> SigningKey:
    """Return one of the keys that are made once for all tests."""
    return _signing_key(number)


@cache
def _signing_key(number: int) -> SigningKey:
    return SigningKey.generate()


def keys(*numbers: int) -> AuditKeys:
    """Return the public halves of these keys; without numbers, of the first."""
    return AuditKeys.of(signing_key(number).jwk for number in numbers or (1,))


def entry(number: int, **more: object) -> Entry:
    """Return an entry that differs from those of other numbers."""
    caller = Caller(actor=Actor(kind="agent", id=AGENT, name="reporter"), request_id=f"request-{number}")
    return Entry(action="token.issue", decision="allow", caller=caller, **{"jti": f"jti-{number}", **more})  # type: ignore[arg-type]  # what a test gives


def row(seq: int, previous: str, made_of: Entry, at: float) -> AuditRow:
    """Return the row that the ledger would write."""
    text = sealed_text(made_of, seq=seq, at=at)
    return AuditRow(seq=seq, at=at, text=text, hash=chained(previous, text), **columns(made_of))  # type: ignore[arg-type]  # all columns are there


def log(length: int) -> list[AuditRow]:
    """Return a whole audit."""
    rows: list[AuditRow] = []
    for seq in range(1, length + 1):
        rows.append(row(seq, rows[-1].hash if rows else GENESIS, entry(seq), START + seq / 8))
    return rows


def head(rows: Sequence[AuditRow]) -> Head:
    """Return where a whole audit ends."""
    return Head(rows[-1].seq, rows[-1].hash) if rows else Head(0, GENESIS)


def checkpoints(rows: Sequence[AuditRow], seqs: Iterable[int], key: int = 1) -> list[str]:
    """Return checkpoints of some entries of a whole audit."""
    return [
        sign_checkpoint(signing_key(key), ISSUER, seq, rows[seq - 1].hash, rows[seq - 1].at, issued_at=START)
        for seq in seqs
    ]
