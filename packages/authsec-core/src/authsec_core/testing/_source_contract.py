"""What every `TokenSource` and `AsyncTokenSource` promises, as classes of tests to inherit.

The promise is that of the protocols; what a particular source adds (that it caches, say) is for its own tests.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import TokenUnavailableError
from authsec_core.source import AsyncTokenSource, TokenRequest, TokenSource
from authsec_core.testing._canary import assert_no_secret
from authsec_core.testing._clock import FakeClock
from authsec_core.token import DelegationToken

__all__ = ["AsyncTokenSourceContract", "TokenSourceContract"]

_AT_ONCE = 16
_WAIT = 30.0  # seconds for what should come at once


class _SourceContract:
    """What the two contracts have in common. Its tests know no difference but that between `_ask` and `_ask_all`."""

    scopes: ClassVar[tuple[str, str]] = ("read:metrics", "read:records")
    refused: ClassVar[str | None] = None

    @pytest.fixture
    def source(self) -> Any:
        """The source to be tested, anew for each test: to be overridden."""
        raise NotImplementedError("define a fixture `source` in the class that inherits the contract")

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that the source goes by."""
        return SYSTEM_CLOCK

    @pytest.fixture
    def outage(self) -> Callable[[], AbstractContextManager[object]] | None:
        """A function that returns a context in which nobody can answer the source; None where there is no such time."""
        return None

    def _ask(self, source: Any, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        raise NotImplementedError

    def _ask_all(self, source: Any, requests: Sequence[TokenRequest]) -> list[DelegationToken]:
        raise NotImplementedError

    def test_a_token_covers_what_was_asked(self, source: Any) -> None:
        """Each scope alone, both together, and with a wish for a shorter life."""
        one, other = self.scopes
        for scope, ttl in ((one, None), (other, None), (f"{one} {other}", None), (one, 60.0)):
            token = self._ask(source, TokenRequest.of(scope, ttl))
            assert isinstance(token, DelegationToken), "a source returns a DelegationToken"
            assert token.scopes >= set(scope.split()), f"asked for {scope!r}, got {sorted(token.scopes)}"

    def test_no_scope_is_the_whole_delegation(self, source: Any) -> None:
        """A request without scopes brings all that the source grants."""
        token = self._ask(source, TokenRequest())
        assert token.scopes >= set(self.scopes), f"of {self.scopes} the whole delegation has {sorted(token.scopes)}"

    def test_what_was_not_asked_for_is_told(self, source: Any) -> None:
        """`excess_scopes` are those that were granted without having been asked for, so that they can be noticed."""
        token = self._ask(source, TokenRequest.of(self.scopes[0]))
        assert token.excess_scopes == token.scopes - {self.scopes[0]}, "excess_scopes does not say what was not asked"

    def test_a_token_is_good_now(self, source: Any, clock: Clock) -> None:
        """Its life has begun and not ended, by the calendar and by the steady clock, which holders go by."""
        for force in (False, True):
            token = self._ask(source, TokenRequest.of(self.scopes[0]), force=force)
            assert token.value, "the token has no text"
            assert token.issued_at <= clock.wall() < token.expires_at, "issued_at and expires_at: epoch seconds"
            steady = clock.steady()
            assert token.sent_at <= steady < token.sent_at + token.lifetime, (
                f"sent_at must be the steady clock's reading when the request was sent; it is {steady} now"
            )

    def test_who_insists_gets_a_new_token(self, source: Any) -> None:
        """With `force` no token comes that anyone had before."""
        request = TokenRequest.of(self.scopes[0])
        before = {self._ask(source, request).value, self._ask(source, request).value}
        was_held = self._ask(source, request, force=True).value in before  # a failed comparison would print tokens
        assert not was_held, "force=True returned a token that was held"

    def test_a_forgotten_token_does_not_come_back(self, source: Any) -> None:
        """An API has refused it. Forgetting it again, when it is long gone, does no harm."""
        request = TokenRequest.of(self.scopes[0])
        refused = self._ask(source, request)
        for _ in range(2):
            source.forget(refused)
            came_back = self._ask(source, request).value == refused.value
            assert not came_back, "a token came back after forget()"

    def test_a_token_that_has_ended_is_not_handed_out(self, source: Any, clock: Clock) -> None:
        """A source that holds tokens asks for a new one in time."""
        if not isinstance(clock, FakeClock):
            pytest.skip("only a FakeClock can be moved: let the source go by `authsec_clock`, and `clock` return it")
        request = TokenRequest.of(self.scopes[0])
        clock.advance(self._ask(source, request).lifetime + 1)
        token = self._ask(source, request)
        assert clock.steady() < token.sent_at + token.lifetime, "a token was handed out after its end"

    def test_callers_at_the_same_time_get_what_each_asked_for(self, source: Any) -> None:
        """One's token is not another's, however many ask at once."""
        requests = [TokenRequest.of(self.scopes[number % 2]) for number in range(_AT_ONCE)]
        for request, token in zip(requests, self._ask_all(source, requests), strict=True):
            assert token.scopes >= (request.scopes or set()), "a caller got the token of another's request"

    def test_a_refusal_is_a_token_unavailable_error(self, source: Any) -> None:
        """What is not granted is one kind of error, which tools know how to tell a model, and no token."""
        if self.refused is None:
            pytest.skip("`refused` names no scope that this source does not grant")
        with pytest.raises(TokenUnavailableError):
            self._ask(source, TokenRequest.of(self.refused))
        assert self._ask(source, TokenRequest.of(self.scopes[0])).value, "no token came after a refusal"

    def test_an_outage_is_a_token_unavailable_error(
        self, source: Any, outage: Callable[[], AbstractContextManager[object]] | None
    ) -> None:
        """No error of a library gets out, and the source works again when the outage has ended."""
        if outage is None:
            pytest.skip("`outage` returns nothing: this source asks nobody")
        with outage(), pytest.raises(TokenUnavailableError):
            self._ask(source, TokenRequest.of(self.scopes[0]))
        assert self._ask(source, TokenRequest.of(self.scopes[0])).value, "no token came after the outage"

    def test_it_shows_no_token(self, source: Any) -> None:
        """Neither its `repr` nor its `str` has a token in it, whatever it holds."""
        token = self._ask(source, TokenRequest.of(self.scopes[0]))
        assert_no_secret([repr(source), str(source)], token.value)


class TokenSourceContract(_SourceContract):
    """The tests of every `TokenSource`. Inherit it, and give it yours in a fixture `source`.

    Attributes:
        scopes: Two scopes that the source grants.
        refused: One that it does not, if there is such a scope.

    Override the fixture `clock` where the source does not go by the system's clock, and `outage` where it asks someone
    who may not answer.
    """

    def _ask(self, source: Any, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        token: DelegationToken = source.token(request, force=force)
        return token

    def _ask_all(self, source: Any, requests: Sequence[TokenRequest]) -> list[DelegationToken]:
        start = threading.Barrier(len(requests))

        def ask(request: TokenRequest) -> DelegationToken:
            start.wait(_WAIT)
            return self._ask(source, request)

        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(ask, requests, timeout=_WAIT))

    def test_it_is_a_token_source(self, source: Any) -> None:
        """It has both methods, and neither is a coroutine function."""
        assert isinstance(source, TokenSource), "a TokenSource has the methods token and forget"
        for method in (source.token, source.forget):
            assert not inspect.iscoroutinefunction(method), f"{method.__name__} must not be a coroutine function"


class AsyncTokenSourceContract(_SourceContract):
    """The tests of every `AsyncTokenSource`: what `TokenSourceContract` is, for coroutines.

    They are no coroutines themselves and need no plugin. Each question is asked on an event loop of its own, because
    AutoGen, for one, makes loops as it goes.
    """

    def _ask(self, source: Any, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        token: DelegationToken = asyncio.run(source.atoken(request, force=force))
        return token

    def _ask_all(self, source: Any, requests: Sequence[TokenRequest]) -> list[DelegationToken]:
        async def ask() -> list[DelegationToken]:
            return list(await asyncio.gather(*map(source.atoken, requests)))

        return asyncio.run(asyncio.wait_for(ask(), _WAIT))

    def test_it_is_an_async_token_source(self, source: Any) -> None:
        """It has both methods; `atoken` is a coroutine function and `forget` is none."""
        assert isinstance(source, AsyncTokenSource), "an AsyncTokenSource has the methods atoken and forget"
        assert inspect.iscoroutinefunction(source.atoken), "atoken must be a coroutine function"
        assert not inspect.iscoroutinefunction(source.forget), "forget must not be a coroutine function"

    def test_a_caller_who_is_cancelled_disturbs_nobody(self, source: Any) -> None:
        """Others who ask for the same meanwhile get their token, and so do those who come later."""
        request = TokenRequest.of(self.scopes[0])

        async def cancel_the_first() -> DelegationToken:
            first, second = (asyncio.ensure_future(source.atoken(request)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            token: DelegationToken = await asyncio.wait_for(second, _WAIT)
            return token

        assert asyncio.run(cancel_the_first()).scopes >= {self.scopes[0]}
        assert self._ask(source, request).scopes >= {self.scopes[0]}
