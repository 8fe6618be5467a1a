"""What does a policy file say? Reads YAML and TOML into a `Policy`, or says where it is wrong, and the mend.

It is read strictly: what is unknown, double, empty or of another type is an error, since a rule that is read in another
way than it was written may open what it should close.

```yaml
version: 1
roles:
  viewer: [read]
  agent: [read, respond]
tools:
  lookup_order: {scopes: [read:orders]}
  refund: {scopes: [write:refunds], action: respond}
routes:
  - {path: /health, methods: [GET], public: true}
  - {path: /chat, methods: [POST], action: respond}
```
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from authsec_core.errors import ConfigurationError
from authsec_fastapi._policy_checks import Place, PolicyError, refuse_unknown, shown
from authsec_fastapi.policy import Policy, RouteRule, ToolRule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["load_policy"]

_LARGEST: Final = 256 * 1024  # bytes
_VERSION: Final = 1
_SECTIONS: Final = ("version", "roles", "tools", "routes")
_NEEDS: Final = ("scopes", "action", "role")
_ROUTE: Final = ("path", "methods", "public", *_NEEDS)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Return the policy of a file: `.yaml` or `.yml`, or `.toml`. Blocks on the disk.

    Raises:
        ConfigurationError: It cannot be read, or is not what a policy looks like. The message names the file, the
            place, the line where that is known, and the mend.
    """
    source = Path(path)
    lines: dict[Place, int] = {}
    try:
        return _policy(_parsed(source, _text(source), lines))
    except PolicyError as fault:
        raise ConfigurationError(_located(source, fault, lines)) from None


def _parsed(source: Path, text: str, lines: dict[Place, int]) -> Any:
    suffix = source.suffix.lower()
    if suffix == ".toml":
        return _toml(text)
    if suffix not in {".yaml", ".yml"}:
        raise PolicyError("nobody can tell its form by its name: call it .yaml, .yml or .toml")
    from authsec_fastapi._policy_yaml import parse_yaml  # here, because it loads PyYAML

    return parse_yaml(text, lines)


def _text(source: Path) -> str:
    try:
        # Before it is opened: opening a pipe waits for somebody who writes into it.
        if not stat.S_ISREG(source.stat().st_mode):
            raise PolicyError("is no file: name one")
        with source.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as exc:
        raise PolicyError(f"cannot be read: {exc.strerror or type(exc).__name__}") from None
    except ValueError:  # a NUL in its name
        raise PolicyError("cannot be read: no file is called so") from None
    if len(data) > _LARGEST:
        raise PolicyError(f"is larger than {_LARGEST // 1024} KiB: that is no policy")
    try:
        return data.decode("utf-8-sig")  # editors on Windows put a mark before it
    except UnicodeDecodeError:
        raise PolicyError("is not UTF-8: save it so") from None


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise PolicyError(f"is no TOML: {exc}") from None
    except RecursionError:
        raise PolicyError("is no policy: it is nested too deeply") from None


def _policy(data: Any) -> Policy:
    if data is None or data == {}:
        raise PolicyError(f"is empty: begin with version, which is {_VERSION}")
    top = _mapping(data, (), _SECTIONS)
    if "version" not in top:
        raise PolicyError(f"has no version: begin with version, which is {_VERSION}")
    if type(top["version"]) is not int or top["version"] != _VERSION:
        raise PolicyError(f"is {shown(top['version'])}: this release reads version {_VERSION}", ("version",))
    for section in _SECTIONS[1:]:
        # A list of routes that is empty would read as none, which opens them all to each good token.
        if section in top and not top[section]:
            raise PolicyError("is empty: leave it out, or say what belongs to it", (section,))
    tools = _mapping(top.get("tools", {}), ("tools",))
    return Policy(
        roles=_mapping(top.get("roles", {}), ("roles",)),
        tools={tool: _tool(rule, ("tools", tool)) for tool, rule in tools.items()},
        routes=tuple(_route(rule, ("routes", at)) for at, rule in enumerate(_list(top.get("routes", []), "routes"))),
    )


def _tool(data: Any, at: Place) -> ToolRule:
    rule = _rule(data, at, _NEEDS)
    with _below(at):
        return ToolRule(**rule)


def _route(data: Any, at: Place) -> RouteRule:
    rule = _rule(data, at, _ROUTE)
    for name in ("path", "methods"):
        if name not in rule:
            raise PolicyError(f"has no {name}: add {'it' if name == 'path' else 'them'}", at)
    with _below(at):
        return RouteRule(**rule)


def _rule(data: Any, at: Place, known: tuple[str, ...]) -> dict[str, Any]:
    if data is None:
        raise PolicyError(f"says nothing: write {{}} if each caller with a good token may, or name {_or(_NEEDS)}", at)
    rule = dict(_mapping(data, at, known))
    for name, value in rule.items():
        if value is None or value == [] or value == {}:
            raise PolicyError("is empty: leave it out, or name what is needed", (*at, name))
    return rule


def _mapping(data: Any, at: Place, known: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        names = f"names such as {_or(known)}" if known else "names"
        raise PolicyError(f"is {shown(data)}: it takes {names}, each with what belongs to it", at)
    for name in data:
        if known is not None:
            refuse_unknown(name, known, f"nothing is called {shown(name)} here", f"there is {_or(known)}", (*at, name))
    return data


def _list(data: Any, name: str) -> list[Any]:
    if not isinstance(data, list):
        raise PolicyError(f"is {shown(data)}: it takes a list", (name,))
    return data


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


@contextmanager
def _below(at: Place) -> Iterator[None]:
    try:
        yield
    except PolicyError as fault:
        raise PolicyError(fault.problem, at + fault.at) from None


def _located(source: Path, fault: PolicyError, lines: Mapping[Place, int]) -> str:
    known = (lines[fault.at[:end]] for end in range(len(fault.at), -1, -1) if fault.at[:end] in lines)
    line = next(known, None)
    name = str(source) if str(source).isprintable() else shown(str(source))
    return f"{name}{'' if line is None else f', line {line}'}: {fault.message}"
