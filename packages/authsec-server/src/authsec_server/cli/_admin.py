"""`authsec-server admin`: one operation of the admin API, over HTTP, as what it came to.

It knows no operation by name: what there is says `_commands`, what may be done says the authority.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from authsec_core._clock import Clock
from authsec_core.errors import BadReplyError
from authsec_server.cli._api import Api, peer_of
from authsec_server.cli._outcome import Outcome, Sheet, cell, sheets_of
from authsec_server.cli._request import ApiRequest, request_of

if TYPE_CHECKING:
    from authsec_server.cli._admin_arguments import AdminArguments
    from authsec_server.cli._fields import Command

__all__ = ["admin"]

_LARGEST_PAGE: Final = 200  # what the API hands out at once


def admin(arguments: AdminArguments, environ: Mapping[str, str], clock: Clock, show: Callable[[Outcome], None]) -> int:
    """Ask the authority once, or page by page, and show what came of it.

    Returns:
        The exit code.

    Raises:
        ProblemError: The authority refused it.
        AuthSecError: It could not be asked, or broke the protocol.
    """
    request = request_of(arguments.operation, arguments.given, clock.wall())
    with Api(peer_of(environ, arguments.token_file), clock) as api:
        if arguments.as_lines:
            shown = _as_lines(api, request, arguments.given.get("limit"))
        elif arguments.every_page:
            items = list(_items(api, request))
            shown = _list(arguments.operation, {"items": items, "next": None})
        else:
            shown = _described(arguments.operation, api.ask(request))
        show(shown)
        return shown.exit_code


def _as_lines(api: Api, request: ApiRequest, limit: int | None) -> Outcome:
    # Made while they are printed: an audit is longer than what fits into memory.
    lines = (json.dumps(item).replace("\x7f", "\\u007f") for item in islice(_items(api, request), limit))
    return Outcome(document=None, lines=lines)


def _items(api: Api, request: ApiRequest) -> Iterator[Any]:
    wanted = int(request.query.get("limit", _LARGEST_PAGE))
    request = replace(request, query={**request.query, "limit": str(min(wanted, _LARGEST_PAGE))})
    while True:
        page = api.ask(request)
        yield from _items_of(page)
        following = page.get("next")
        if not isinstance(following, str) or following == request.query.get("after"):
            return
        request = replace(request, query={**request.query, "after": following})


def _described(command: Command, reply: Mapping[str, Any]) -> Outcome:
    if command.columns:
        return _list(command, reply)
    kept, secrets = _apart(reply, command.once)
    said = "this is shown once: keep it where only its owner can read it" if secrets else ""
    return Outcome(document=reply, sheets=sheets_of(kept), lines=secrets, said=said or ("" if reply else "done"))


def _apart(reply: Mapping[str, Any], once: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Take what is shown once out of the table, where it would be folded, to stand on a line of its own."""
    secret = reply.get(once) if once else None
    if not isinstance(secret, str):
        return reply, ()
    return {name: value for name, value in reply.items() if name != once}, (secret,)


def _list(command: Command, reply: Mapping[str, Any]) -> Outcome:
    items = [item for item in _items_of(reply) if isinstance(item, dict)]
    columns = command.columns.split()
    rows = tuple(tuple(_cell(item, column) for column in columns) for item in items)
    titles = tuple(re.split(r"[+.]", column)[0].replace("_", " ") for column in columns)
    following = reply.get("next")
    said = f"there is more: add --after {following}, or --all" if isinstance(following, str) else ""
    return Outcome(document=reply, sheets=(Sheet(columns=titles, rows=rows),), said=said)


def _items_of(page: Mapping[str, Any]) -> list[Any]:
    items = page.get("items")
    if not isinstance(items, list):
        raise BadReplyError("the authority's reply is not a page of a list: check AUTHSEC_ADMIN_URL")
    return items


def _cell(item: Mapping[str, Any], column: str) -> str:
    return " ".join(filter(None, (cell(_member(item, path)) for path in column.split("+"))))


def _member(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item
