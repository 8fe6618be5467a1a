"""How an agent proves to the authority who it is: a key, a workload token from a file, or (hosted service) nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from authsec_core.errors import ProofUnavailableError
from authsec_core.token import Secret

__all__ = ["AgentKey", "NoProof", "Proof", "WorkloadTokenFile"]

_LONGEST = 16384  # bytes of a workload token


class Proof(Protocol):
    """One agent's proof. Thread-safe."""

    @property
    def fingerprint(self) -> str:
        """Tell two proofs apart without revealing either: part of every cache key."""
        ...

    def headers(self) -> dict[str, str]:
        """Return what to send with one exchange.

        Raises:
            ProofUnavailableError: The proof cannot be read at this moment.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoProof:
    """The bare client id, which the hosted service and `authsec-server serve --dev` accept."""

    @property
    def fingerprint(self) -> str:
        """Return the one fingerprint of nothing."""
        return "none"

    def headers(self) -> dict[str, str]:
        """Return no header."""
        return {}


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key that the authority generated for this agent."""

    key: Secret

    @property
    def fingerprint(self) -> str:
        """Return a digest of the key, which has 256 random bits and so cannot be guessed back."""
        return "key:" + hashlib.sha256(self.key().encode()).hexdigest()

    def headers(self) -> dict[str, str]:
        """Return the key as a Bearer credential."""
        return {"Authorization": f"Bearer {self.key()}"}


@dataclass(frozen=True, slots=True)
class WorkloadTokenFile:
    """A JWT that the platform keeps fresh in a file (Kubernetes projected tokens, SPIFFE); read for each exchange."""

    path: Path

    @property
    def fingerprint(self) -> str:
        """Return the path: the file's content changes hourly, the workload behind it does not."""
        return f"file:{self.path}"

    def headers(self) -> dict[str, str]:
        """Read the file and return its token as a Bearer credential."""
        try:
            token = _only_token(self.path)
        except OSError as exc:
            raise self._unusable(exc.strerror or "it cannot be read") from exc
        if token is None:
            raise self._unusable("it does not hold one token")
        return {"Authorization": f"Bearer {token}"}

    def _unusable(self, why: str) -> ProofUnavailableError:
        return ProofUnavailableError(f"The workload token {str(self.path)!r} cannot be used: {why}. Check its mount.")


def _only_token(path: Path) -> str | None:
    """Return the file's one token, or None. A function of its own, so that no error is raised beside the content."""
    with path.open("rb") as file:
        raw = file.read(_LONGEST + 1)
    text = raw.decode("ascii", "replace").strip()
    good = text and len(raw) <= _LONGEST and all("\x21" <= character <= "\x7e" for character in text)
    return text if good else None
