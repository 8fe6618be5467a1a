"""What a protected API's answer means: to people a `FetchResult` or an exception, to a model bounded JSON.

Pure: it is handed what came back. No result ever holds a header, a token, a traceback or the body of an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn

from authsec_core._http import Failure, Reply
from authsec_core.errors import AuthSecError, DownstreamDeniedError, DownstreamError, DownstreamUnavailableError
from authsec_core.token import DelegationToken, Mode, Secret

__all__ = ["RESULT_LIMIT", "FetchResult", "read_answer", "read_data"]

RESULT_LIMIT = 65536  # bytes of JSON that a model is shown
_SAMPLE_NOTICE = "MOCK mode: this is invented sample data, not real data. Say so when you use it."
_REMOVED = "[token removed]"
_SHORTEST_PART = 16  # characters of a token's part that is looked for: a shorter one could be a word of the answer
_PASSING = frozenset({408, 425, 429})
_UNUSABLE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """The outcome of one secure fetch. Immutable.

    Attributes:
        status: `success` or `error`.
        mode: `live`, or `mock` for sample data.
        code: The HTTP status of a success; the stable code of an error.
        data: What the API answered: parsed JSON, or text.
        message: What went wrong and what to do next.
        retryable: Whether the same call can succeed later.
        token: The token that was used, for its `jti`, scopes and end. It is not part of the JSON.
    """

    status: Literal["success", "error"]
    mode: Mode
    code: int | str
    data: Any = None
    message: str | None = None
    retryable: bool = False
    token: DelegationToken | None = None

    @classmethod
    def of_error(cls, error: AuthSecError, mode: Mode) -> FetchResult:
        """Return the result that tells a model of `error`."""
        return cls(status="error", mode=mode, code=error.code, message=error.message, retryable=error.retryable)

    @property
    def ok(self) -> bool:
        """Whether there is data."""
        return self.status == "success"

    def to_json(self, *, limit: int = RESULT_LIMIT) -> str:
        """Return what a model is shown: JSON text of at most `limit` bytes.

        Data that does not fit becomes an error that says so; it is never cut: half an answer reads like a whole one.
        So does data that JSON has no form for. An error keeps its code, and the beginning of its message.
        """
        fields: dict[str, Any] = {"status": self.status, "mode": self.mode, "code": self.code}
        if self.ok:
            fields["data"] = self.data
            fields |= {"notice": _SAMPLE_NOTICE} if self.mode == "mock" else {}
        else:
            fields |= {"message": self.message, "retryable": self.retryable}
        try:
            text = json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        except (TypeError, ValueError, RecursionError):
            return FetchResult.of_error(DownstreamError("The answer cannot be written as JSON."), self.mode).to_json()
        if len(text) <= limit:
            return text.decode("utf-8")
        least = max(limit, 1024)
        shorter = FetchResult.of_error(_too_large(limit), self.mode) if self.ok else self._shortened(least // 8)
        return shorter.to_json(limit=least)

    def _shortened(self, characters: int) -> FetchResult:
        return replace(self, message=(self.message or "")[:characters])


def read_answer(
    answer: Reply | Failure, token: DelegationToken, *, limit: int, refused: DelegationToken | None = None
) -> FetchResult:
    """Return the data that a protected API answered with.

    Args:
        token: The token that was sent; should the API echo it, it is taken out.
        limit: The bytes of body that were read at most.
        refused: Another token that the API has seen before, and may echo as well.

    Raises:
        DownstreamError: See `read_data`.
    """
    sent = [part for one in (token, refused) if one is not None for part in _telling_parts(one)]
    data = read_data(answer, sent, limit=limit)
    return FetchResult(status="success", mode=token.mode, code=_status(answer), data=data, token=token)


def read_data(answer: Reply | Failure, sent: Sequence[Secret], *, limit: int, removed: str = _REMOVED) -> Any:
    """Return the data that an API answered with.

    Args:
        sent: What is taken out, should the API echo it.
        limit: The bytes of body that were read at most.
        removed: What then stands in its place.

    Raises:
        DownstreamDeniedError: 401 or 403.
        DownstreamUnavailableError: No answer, 408, 425, 429 or 5xx.
        DownstreamError: Any other status, or a body that is neither JSON nor text, or too large.
    """
    if isinstance(answer, Failure):
        raise _failure(answer, limit) from answer.cause
    if not 200 <= answer.status < 300:
        raise _refusal(answer.status)
    declared = "json" in answer.headers.get("Content-Type", "").lower()
    data = _data(answer.body, sent, removed, text_will_do=not declared)
    if data is _UNUSABLE:
        raise DownstreamError(f"The API's answer is {'not valid JSON' if declared else 'neither JSON nor text'}.")
    return data


def _status(answer: Reply | Failure) -> int:
    return answer.status if isinstance(answer, Reply) else 0


def _failure(failure: Failure, limit: int) -> DownstreamError:
    if failure.kind == "too_large":
        return _too_large(limit)
    if failure.kind == "tls":
        return DownstreamError("TLS to the API failed: its operator has to check its certificate and AUTHSEC_CA_FILE.")
    why = {"connect": "cannot be reached", "timeout": "did not answer in time"}.get(failure.kind, "broke off")
    return DownstreamUnavailableError(f"The API {why}: try again later, or have AUTHSEC_API_BASE_URL checked.")


def _too_large(limit: int) -> DownstreamError:
    return DownstreamError(
        f"The answer is larger than {limit} bytes: ask for less, or raise AUTHSEC_MAX_RESPONSE_BYTES."
    )


def _refusal(status: int) -> DownstreamError:
    if status in {401, 403}:
        return DownstreamDeniedError(f"The API denied access ({status}): asking again will not help.", status=status)
    if status in _PASSING or status >= 500:
        return DownstreamUnavailableError(f"The API is unavailable ({status}): try again later.", status=status)
    if 300 <= status < 400:
        return DownstreamError(f"The API answered with a redirect ({status}), which is not followed.", status=status)
    return DownstreamError(f"The API answered {status}: check the endpoint.", status=status)


def _data(body: bytes, sent: Sequence[Secret], removed: str, *, text_will_do: bool) -> Any:
    """Return what the body says. It raises nothing: an error's context would hold the body."""
    try:
        # RFC 8259 section 8.1: JSON is UTF-8, and nothing is guessed.
        text = _without(sent, removed, body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _UNUSABLE
    data = _parsed(text)
    if data is _UNUSABLE:
        return text if text_will_do and "\0" not in text else _UNUSABLE
    escaped = "\\u" in text or "\\/" in text
    return _parsed(_without(sent, removed, _unescaped(data))) if escaped else data


def _unescaped(data: Any) -> str:
    """Return data whose text was spelled in escapes, as the token may have been, without them."""
    try:
        return json.dumps(data, ensure_ascii=False)
    except RecursionError:
        return "too deep"


def _without(sent: Sequence[Secret], removed: str, text: str) -> str:
    """Take secrets out of a text, in whatever case of ASCII they are written: `%2f` is `%2F`."""
    # In bytes, whose `lower` leaves each character where it was, and in a time that no answer can make longer.
    kept = text.encode("utf-8", "surrogatepass")
    for secret in sent:
        parts, looked_at, begin = [], kept.lower(), 0
        sought = secret().encode("utf-8", "surrogatepass").lower()
        while (end := looked_at.find(sought, begin)) >= 0:
            parts.append(kept[begin:end])
            begin = end + len(sought)
        kept = removed.encode().join([*parts, kept[begin:]])
    return kept.decode("utf-8", "surrogatepass")


def _telling_parts(token: DelegationToken) -> list[Secret]:
    """Return a token and the parts of it that matter, in case the API echoes a request."""
    parts = (token.value, *token.value.split(".")[1:])
    return [Secret(part) for part in parts if len(part) >= _SHORTEST_PART]


def _parsed(text: str) -> Any:
    try:
        return _DECODER.decode(text) if text.strip() else None
    except (ValueError, RecursionError):
        return _UNUSABLE


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)  # `json.loads` would make one for each answer
