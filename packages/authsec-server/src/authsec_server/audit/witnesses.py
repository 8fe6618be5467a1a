"""What signed checkpoints say the audit must be, whichever place they come from, and whose signature they bear.

A bad checkpoint is remembered with the entry that it is about, so that the first bad entry is the one that is named. It
does not look at the audit: see `verify`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from authsec_core._jwks import Keys, parse_keys
from authsec_core.errors import ConfigurationError
from authsec_server.audit.checkpoint_file import CheckpointFile
from authsec_server.audit.checkpoint_jws import (
    BadCheckpointError,
    TornCheckpointError,
    peek_checkpoint,
    read_checkpoint,
)

__all__ = ["AuditKeys", "Witnesses"]

_LARGEST_JWKS: Final = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditKeys:
    """Whose checkpoints are believed.

    Attributes:
        revoked: Those of the keys that were taken back. What they signed counts, and is pointed out.
        unusable: The ids of what is no RSA key for signatures.
    """

    public: Keys
    revoked: frozenset[str] = frozenset()
    unusable: tuple[str, ...] = ()

    @classmethod
    def of(cls, jwks: Iterable[object], *, revoked: Iterable[str] = ()) -> AuditKeys:
        """Return the keys among these JWKs."""
        public: dict[str, Any] = {}
        unusable = []
        for jwk in jwks:
            try:  # one by one: a set of more keys than a verifier takes is usual here
                found = parse_keys({"keys": [jwk]})
            except ValueError:
                found = {}
            public.update(found)
            if not found:
                unusable.append(str(jwk.get("kid")) if isinstance(jwk, Mapping) else "?")
        return cls(public=public, revoked=frozenset(revoked), unusable=tuple(unusable))

    @classmethod
    def pinned(cls, paths: Iterable[Path]) -> AuditKeys:
        """Return the keys of some JWKS files.

        Raises:
            ConfigurationError: One cannot be read, or has no key.
        """
        jwks: list[object] = []
        for path in paths:
            try:
                with path.open("rb") as file:
                    listed = json.loads(file.read(_LARGEST_JWKS))["keys"]
                usable = cls.of(listed).public
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
                raise ConfigurationError(f"{path} cannot be read as a JWK set") from exc
            if not usable:
                raise ConfigurationError(f"{path} has no RSA key for signatures")
            jwks += listed
        return cls.of(jwks)


@dataclass(slots=True)
class Witnesses:
    """The checkpoints that were found. Keeps some 200 bytes of each.

    Attributes:
        problems: By entry, what is wrong with its checkpoints.
        notes: What a person should know, and is no damage to the audit.
    """

    keys: AuditKeys
    hashes: dict[int, bytes] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _by_revoked: dict[str, int] = field(default_factory=dict)

    def add(self, jws: str, *, where: str, seq: int | None = None) -> None:
        """Take a checkpoint into account. Costs the check of a signature.

        Args:
            where: For people.
            seq: The entry that it has to be about; None leaves that to itself.
        """
        try:
            found = read_checkpoint(jws, self.keys.public)
        except BadCheckpointError as exc:
            self._refuse(jws, where, seq, exc)
            return
        if seq is not None and found.seq != seq:
            self.problems.setdefault(min(seq, found.seq), f"{where} is of entry {found.seq}: it was moved")
        digest = bytes.fromhex(found.hash)
        if self.hashes.setdefault(found.seq, digest) != digest:
            self.problems.setdefault(found.seq, f"{where} contradicts another checkpoint of the same entry")
        if found.kid in self.keys.revoked:
            self._by_revoked[found.kid] = self._by_revoked.get(found.kid, 0) + 1

    def add_file(self, path: Path, *, size: int) -> None:
        """Take the checkpoints of a file into account, up to a size.

        A line that is none, such as the torn last one after a power failure, is noted.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        try:
            for line in CheckpointFile(path).read(size=size):
                self.add(line.text, where=f"line {line.number} of {path.name}")
        except OSError as exc:
            raise ConfigurationError(f"{path} cannot be read") from exc

    def all_notes(self) -> tuple[str, ...]:
        """Return the notes, with those on revoked keys."""
        revoked = (
            f"{count} checkpoints are signed with the key {kid}, which was revoked: whoever has it can have made them"
            for kid, count in self._by_revoked.items()
        )
        unusable = (f"the key {kid} is no RSA key for signatures and was passed over" for kid in self.keys.unusable)
        return (*self.notes, *revoked, *unusable)

    def _refuse(self, jws: str, where: str, seq: int | None, why: BadCheckpointError) -> None:
        if seq is None:
            try:
                seq = None if isinstance(why, TornCheckpointError) else peek_checkpoint(jws).seq
            except BadCheckpointError:
                seq = None
        if seq is None:
            self.notes.append(f"{where} is not a whole checkpoint and was passed over")
            return
        self.problems.setdefault(seq, f"{where} is not good: {why}")
