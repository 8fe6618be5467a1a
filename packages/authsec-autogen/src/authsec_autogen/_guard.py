"""May this message run that tool? One guard for each executor, asked before the executor runs any function.

AutoGen runs whatever function a message names, no matter to whom it was offered. So one agent's model could call
another agent's tool and act with its identity; and a message that was made up does the same.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authsec_core.token import Mode

__all__ = ["Guard", "refusal"]

_log = logging.getLogger("authsec.autogen")

Message = Mapping[str, Any]

_NOT_YOURS = (
    "{name} is not a tool of yours, so none of the calls in this message was run: use only the tools that you were "
    "offered."
)
_NO_OBJECT = "{name} takes a JSON object with {takes}, so none of the calls in this message was run."


@dataclass(frozen=True, slots=True)
class _Tool:
    owner: Any
    mode: Mode
    takes: tuple[str, ...]


class Guard:
    """Knows for which agent each tool of one executor was registered. Not for threads that register at once.

    It tells agents apart as AutoGen does: in a chat of two by the sender, in a group chat by the speaker's name, which
    the manager sets. That holds against a model that misbehaves, not against hostile Python code in the process.

    Args:
        manager: The framework's `GroupChatManager`, whose messages were written by others.
    """

    def __init__(self, manager: type[Any]) -> None:
        self._manager = manager
        self._tools: dict[str, _Tool] = {}
        self._admitted: Counter[str] = Counter()  # calls that were let through and not yet run, of all chats at once

    def stand_before(self, executor: Any, triggers: list[Any]) -> None:
        """Have AutoGen ask this guard first, in sync and in async chats, whenever `executor` is to reply."""
        executor.register_reply(triggers, self.authsec_guard_reply, position=0)
        executor.register_reply(triggers, self.a_authsec_guard_reply, position=0, ignore_async_in_sync_chat=True)

    def admit(self, name: str, owner: Any, mode: Mode, *, takes: tuple[str, ...]) -> None:
        """Let `owner`, and nobody else, call the tool `name`, which takes these arguments."""
        self._tools[name] = _Tool(owner, mode, takes)

    def consume(self, name: str) -> bool:
        """Say whether this guard has let a call of `name` through that has not been run yet, and count it as run.

        A framework that takes the function out of the executor and calls it elsewhere has asked nobody.
        """
        if self._admitted[name] < 1:
            return False
        self._admitted[name] -= 1
        return True

    # AG2 pairs sync and async functions by name, so these names must not be anybody else's.
    def authsec_guard_reply(self, recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, Any]:
        """Answer a message that calls a tool of another agent; leave every other one to AutoGen's own functions."""
        answer = self._refuse(recipient, messages, sender, config)
        if answer is None:
            return False, None
        # Else a model that insists would never meet max_consecutive_auto_reply, nor the human who watches.
        final, reply = recipient.check_termination_and_human_reply(messages=messages, sender=sender)
        return True, reply if final else answer

    async def a_authsec_guard_reply(self, recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, Any]:
        """Do the same in an async chat, where a human may be asked in another way."""
        answer = self._refuse(recipient, messages, sender, config)
        if answer is None:
            return False, None
        final, reply = await recipient.a_check_termination_and_human_reply(messages=messages, sender=sender)
        return True, reply if final else answer

    def _refuse(self, recipient: Any, messages: Any, sender: Any, config: Any) -> dict[str, Any] | None:
        del config
        if messages is None:  # a hook may return None, and AutoGen's functions then read what was received
            messages = recipient.chat_messages[sender]
        message = messages[-1] if messages else {}
        author = self._author(message, recipient, sender)
        for name, arguments in _called(message):
            tool = self._tools.get(name)
            if tool is None:  # not a tool of ours
                continue
            if tool.owner is not author:
                _log.warning("refused to run %s for %s", name, getattr(author, "name", "an unknown author"))
                return _answer(message, refusal(_NOT_YOURS.format(name=name), tool.mode))
            if not _can_be_passed(arguments):
                takes = " and ".join(map(repr, tool.takes))
                text = _NO_OBJECT.format(name=name, takes=takes)
                return _answer(message, refusal(text, tool.mode, code="bad_arguments"))
        self._admitted.update(name for name, _ in _called(message) if name in self._tools)
        return None

    def _author(self, message: Message, recipient: Any, sender: Any) -> Any:
        if not isinstance(sender, self._manager):
            return sender
        if "name" not in message:  # the manager names whom it relays; what an agent itself said has no name there
            return recipient
        named = [agent for agent in sender.groupchat.agents if agent.name == message["name"]]
        return named[0] if len(named) == 1 else None


def refusal(message: str, mode: Mode, *, code: str = "tool_refused") -> str:
    """Return the JSON text that tells a model that a tool was not run."""
    from authsec_core.fetch import FetchResult

    return FetchResult(status="error", mode=mode, code=code, message=message).to_json()


def _called(message: Message) -> Iterator[tuple[str, object]]:
    """Yield the functions that AutoGen would look up, and their arguments, in both forms that a call can have."""
    for call in [message.get("function_call"), *(one.get("function") for one in message.get("tool_calls") or ())]:
        name = call.get("name") if call else None
        if isinstance(name, str):
            yield name, call.get("arguments", "{}")


def _can_be_passed(arguments: object) -> bool:
    """Say whether AutoGen gets as far as calling the function, or telling the model why not.

    On `null`, on other JSON that is no object, and on JSON that is too much for Python, it breaks off the whole chat.
    """
    if not isinstance(arguments, str):
        return False
    try:
        return isinstance(json.loads(arguments, strict=False), dict)
    except json.JSONDecodeError:
        return True  # AutoGen answers that
    except (ValueError, RecursionError):  # a number of too many digits, brackets in brackets
        return False


def _answer(message: Message, text: str) -> dict[str, Any]:
    """Return the reply that answers every call of the message, as models insist."""
    calls = message.get("tool_calls")
    if not calls:
        return {"role": "function", "name": message["function_call"]["name"], "content": text}
    responses = [
        {"role": "tool", "content": text} | ({"tool_call_id": call["id"]} if call.get("id") is not None else {})
        for call in calls
    ]
    return {"role": "tool", "tool_responses": responses, "content": "\n\n".join([text] * len(responses))}
