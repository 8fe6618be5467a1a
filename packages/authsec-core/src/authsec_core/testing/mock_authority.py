"""A MOCK authority for tests: it remembers what it granted and answered, and can change its mind.

How a test's clients come to belong to it is decided in `_mock_mode`.
"""

from __future__ import annotations

from collections.abc import Iterable

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.mock import MockAuthority
from authsec_core.scopes import parse_scopes
from authsec_core.token import DelegationToken

__all__ = ["RecordingMockAuthority"]


class RecordingMockAuthority(MockAuthority):
    """A `MockAuthority` that remembers what it granted and answered, and that can change its mind. Thread-safe.

    >>> mock = RecordingMockAuthority("read:reports")
    >>> mock.mint(frozenset({"read:reports"})).mode
    'mock'
    >>> [sorted(token.scopes) for token in mock.issued], mock.answered
    ([['read:reports']], ())
    """

    def __init__(self, permissions: str | Iterable[str] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(permissions, clock=clock)
        # Appended to and copied, both of which are one step for other threads.
        self._issued: list[DelegationToken] = []
        self._answered: list[str] = []

    def permit(self, permissions: str | Iterable[str] | None) -> None:
        """Grant these scopes and no others from now on; None is whatever is asked.

        Tokens that clients hold already stay good, as they would with any authority.

        Raises:
            ValueError: The permissions are blank or not valid.
        """
        self._permissions = parse_scopes(permissions)

    @property
    def issued(self) -> tuple[DelegationToken, ...]:
        """Every token that was granted, in order. A client that uses a held one asks for none."""
        return tuple(self._issued)

    @property
    def answered(self) -> tuple[str, ...]:
        """Every endpoint that was answered with data, in order."""
        return tuple(self._answered)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The text of every token that was granted, for `assert_no_secret`."""
        return tuple(token.value for token in self._issued)

    def mint(
        self,
        scopes: frozenset[str] | None = None,
        *,
        ttl: float | None = None,
        client_id: str | None = None,
        audience: str | None = None,
    ) -> DelegationToken:
        """Return a new MOCK token and remember it. See `MockAuthority.mint`."""
        token = super().mint(scopes, ttl=ttl, client_id=client_id, audience=audience)
        self._issued.append(token)
        return token

    def answer(self, path: str, token: DelegationToken) -> object:
        """Return the data registered for `path` and remember that. See `MockAuthority.answer`."""
        data = super().answer(path, token)
        self._answered.append(path)
        return data
