"""Which names, lists and texts does a YAML text hold, and in which lines? Nothing is made of it but these.

YAML has more than a policy needs, and some of it is read in another way than it looks: `no` is false, `1_0` is ten, a
name that stands twice is the last one, `&` and `*` multiply. All of it is refused, with how to write it plainly.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from authsec_fastapi._policy_checks import Place, PolicyError, shown

__all__ = ["parse_yaml"]

_DEEPEST: Final = 8  # levels; a policy has four
_TAG: Final = "tag:yaml.org,2002:"
_FLAGS: Final = {"true": True, "false": False}


def parse_yaml(text: str, lines: dict[Place, int]) -> Any:
    """Return what the text holds: dicts, lists, texts, numbers, true, false, None, and `Unquoted` for the rest.

    Args:
        lines: Gets the line of each place, also when this raises.

    Raises:
        PolicyError: It is no YAML, or has what is not read here.
    """
    loader = _PlainLoader(text, lines)
    try:
        root = loader.get_single_node()
        return None if root is None else loader.plain(root, ())
    except yaml.YAMLError as exc:
        raise PolicyError(f"is no YAML: {_problem(exc)}") from None
    finally:
        loader.dispose()


class Unquoted:
    """A word that YAML takes for something else than text. It is shown as it was written."""

    def __init__(self, spelling: str) -> None:
        self._spelling = spelling

    def __repr__(self) -> str:
        return self._spelling if self._spelling.isprintable() else shown(self._spelling)


class _PlainLoader(yaml.SafeLoader):
    def __init__(self, text: str, lines: dict[Place, int]) -> None:
        try:
            super().__init__(text)
        except yaml.YAMLError as exc:  # a control character; the reader looks for them at once
            raise PolicyError(f"is no YAML: {_problem(exc)}") from None
        self._lines = lines
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # by its stubs
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise PolicyError(f"line {_line(event)}: & and * are not read here: write the names out")
        if getattr(event, "tag", None) is not None:
            raise PolicyError(f"line {_line(event)}: tags (!) are not read here: take it away")
        if self._depth == _DEEPEST:
            raise PolicyError(f"line {_line(event)}: it is nested too deeply for a policy")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def plain(self, node: yaml.Node, at: Place) -> Any:
        self._lines.setdefault(at, _line(node))
        if isinstance(node, yaml.MappingNode):
            return self._names(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(member, (*at, number)) for number, member in enumerate(node.value)]
        return _word(node.tag.removeprefix(_TAG), node.value)

    def _names(self, node: yaml.MappingNode, at: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self.plain(key, at) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                spelled = shown(name) if isinstance(key, yaml.ScalarNode) else "a list"
                raise PolicyError(f"line {_line(key)}: {spelled} is no text, and names nothing: put it in quotes", at)
            place = (*at, name)
            if name in found:
                raise PolicyError(f"stands twice, in line {self._lines[place]} and line {_line(key)}: leave one", place)
            self._lines[place] = _line(key)
            found[name] = self.plain(value, place)
        return found


def _word(kind: str, spelling: str) -> Any:
    if kind == "str":
        return spelling
    if kind == "null":
        return None
    if kind == "bool" and spelling.lower() in _FLAGS:
        return _FLAGS[spelling.lower()]
    if kind == "int" and spelling.isascii() and spelling.isdigit() and len(spelling) < 10:
        return int(spelling)
    return Unquoted(spelling)


def _line(marked: Any) -> int:
    return int(marked.start_mark.line) + 1


def _problem(exc: yaml.YAMLError) -> str:
    # Not its text, which quotes the file.
    mark = getattr(exc, "problem_mark", None)
    problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "nobody can read it"
    return problem if mark is None else f"{problem} (line {mark.line + 1})"
