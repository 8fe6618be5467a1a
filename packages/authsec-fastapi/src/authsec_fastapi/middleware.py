"""A guard around a whole ASGI application: what is not declared public needs a good token, whatever the path.

Dependencies guard the routes that somebody remembered to put them on. The middleware also stands before what has none:
documentation, mounted applications, static files, and paths that lead nowhere. It decides before anything of the
request's body is read. What a route needs beyond a good token is said by the policy's `routes`, or by dependencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from authsec_core.errors import AuthSecError, ConfigurationError
from authsec_fastapi._about import KNOWN_METHODS, about_request, method_of
from authsec_fastapi._admitted import admit
from authsec_fastapi._refusing import refuse
from authsec_fastapi.policy import Policy, RouteRule
from authsec_fastapi.refusals import refusal_of
from authsec_fastapi.requirement import ANY_CALLER, Requirement, requirement_of
from authsec_fastapi.routing import match_route

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from authsec_fastapi.guard import AuthSecGuard

__all__ = ["AuthSecMiddleware"]

_UNKNOWN_ROUTE = Requirement(route_known=False)
_MOST_LAYERS = 32  # of middleware that is looked through; no one writes more, and a ring of them has to end
_PATTERNS = frozenset("{}*?#%;\\")


class AuthSecMiddleware:
    """Lets in who has a good token, and anybody to what is public; denies by default.

    ```python
    app.add_middleware(AuthSecMiddleware, guard=guard, public=[("GET", "/health")])
    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])
    ```

    Where the policy has `routes`, one of them has to match as well: else whoever has a good token gets 403. Browsers
    send no token with a preflight, and read no answer that lacks the headers of CORS: so `CORSMiddleware` is added
    after this one, which puts it around this one. The caller is verified once: a dependency of the same guard decides
    for the same caller again, and does not look at the token again.

    Args:
        app: An ASGI application; inside `FastAPI.add_middleware` it is given.
        guard: Whose tokens and policy count.
        public: What needs no token: methods and paths, each exactly as the application routes on it: decoded, below
            its root path or mount. GET does not mean HEAD; `WEBSOCKET` stands for a WebSocket. The `public` routes of
            the policy count too.

    Raises:
        ConfigurationError: An entry of `public` could not match what it seems to, or the policy asks for a token there;
            or the application has a root path that is not known out here: then use its `add_middleware`.
    """

    def __init__(self, app: ASGIApp, *, guard: AuthSecGuard, public: Iterable[tuple[str, str]] = ()) -> None:
        self._app = app
        self._guard = guard
        self._public = tuple(_public_rule(entry) for entry in _entries(public))
        _refuse_contradictions(self._public, guard.judge.policy)
        _refuse_hidden_root(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may be passed on, and refuse the rest.

        Raises:
            RuntimeError: It is neither HTTP nor a WebSocket, so that nobody knows who is calling.
        """
        if scope["type"] not in {"http", "websocket", "lifespan"}:
            raise RuntimeError("the guard knows HTTP and WebSockets, and lets nothing else through")
        if scope["type"] != "lifespan":
            try:
                await self._admit(scope)
            except AuthSecError as error:
                await refuse(refusal_of(error, realm=self._guard.realm), scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        judge = self._guard.judge
        policy = judge.policy  # looked up once: a policy that is exchanged meanwhile is not mixed with this one
        # Where a rule and an entry of `public` are equally near, the first one counts: the operator's rule.
        rule = match_route((*policy.routes, *self._public), method_of(scope), _route_path(scope))
        if rule is not None and rule.public:
            return
        about = about_request(scope, route=rule.path if rule is not None else None)
        await admit(judge, scope, _requirement(rule, policy), about, policy=policy)


def _requirement(rule: RouteRule | None, policy: Policy) -> Requirement:
    if rule is not None:
        return requirement_of(rule)
    return _UNKNOWN_ROUTE if policy.routes else ANY_CALLER


def _route_path(scope: Mapping[str, Any]) -> str:
    """Return the path that Starlette routes on: without the root path, where it stands before it as whole segments."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


def _entries(public: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    if isinstance(public, (str, bytes, Mapping)):
        raise ConfigurationError('public is a list of pairs such as ("GET", "/health")')
    return public


def _public_rule(entry: tuple[str, str]) -> RouteRule:
    if not (isinstance(entry, (tuple, list)) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
        raise ConfigurationError(f'each entry of public is a pair such as ("GET", "/health"), not {entry!r}')
    method, path = entry
    if method not in KNOWN_METHODS:
        raise ConfigurationError(f"{method!r} is no method that can be public: write it in upper case")
    if not path.startswith("/") or not path.isprintable():
        raise ConfigurationError(f"the public path {path!r} starts with a slash, and is plain text")
    if _PATTERNS & set(path):
        raise ConfigurationError(f"the public path {path!r} is compared as it is, decoded: it is no pattern and no URL")
    if any(segment in {"", ".", ".."} for segment in path[1:].split("/")[:-1]) or path.endswith(("/.", "/..")):
        raise ConfigurationError(f"no request is routed to the public path {path!r}: write it without `//` and dots")
    return RouteRule(path=path, methods=frozenset({method}), public=True)


def _refuse_contradictions(public: Iterable[RouteRule], policy: Policy) -> None:
    for rule in policy.routes:
        for entry in public:
            if not rule.public and rule.path == entry.path and entry.methods <= rule.methods:
                raise ConfigurationError(
                    f"{rule.path} is public here, and not in the policy: take it out of one of them"
                )


def _refuse_hidden_root(app: Any) -> None:
    # FastAPI puts its root path into the scope before its own middleware. Out here `/api/admin` would be judged by the
    # rule for `/{a}/{b}`, and be routed as `/admin`.
    inner = app
    for _ in range(_MOST_LAYERS):
        if getattr(inner, "root_path", ""):
            raise ConfigurationError("the application has a root path: add the guard with app.add_middleware(…)")
        for route in getattr(inner, "routes", None) or ():
            _refuse_root_below(route)
        inner = getattr(inner, "app", None)


def _refuse_root_below(route: Any) -> None:
    # A mounted FastAPI puts its root path in the place of the mount's: below `/`, `/api/admin` becomes `/admin` there.
    at, root = getattr(route, "path", ""), getattr(getattr(route, "app", None), "root_path", "")
    if isinstance(root, str) and root.startswith(f"{at}/"):
        raise ConfigurationError(
            f"what is mounted at {at or '/'!r} has a root path of its own, by which its paths are others than they "
            "seem: take it away there"
        )
