"""May this message run that tool? Asked before an executor of classic AutoGen or AG2 below 1 runs a function.

These run whatever function a message names, no matter to which agent it was offered. So one caller's model could name
a tool of another caller, or a message that was made up could, and it would run. What the tool's caller may do is for
`_gates`.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from authsec_fastapi._gates import refusal
from authsec_fastapi.principal import Identity

__all__ = ["ExecutorGuard"]

_log = logging.getLogger("authsec.guard")

Message = Mapping[str, Any]

_NOT_YOURS: Final = "None of the calls in this message was run: use only the tools that you were offered."
_NO_OBJECT: Final = "None of the calls in this message was run: a tool's arguments are a JSON object."


class ExecutorGuard:
    """Knows for which agent each guarded tool of one executor was registered. Not for threads that register at once.

    It tells agents apart as AutoGen does: in a chat of two by the sender, in a group chat by the speaker's name, which
    the manager sets. That holds against a model that misbehaves, not against hostile Python code in the process.

    Args:
        manager: The framework's `GroupChatManager`, whose messages were written by others.
        identity: Whose tools the executor runs.
    """

    def __init__(self, manager: type[Any], identity: Identity) -> None:
        self._manager = manager
        self.identity = identity
        self._owners: dict[str, Any] = {}
        # A permit for each call that was let through and has not run yet; appending and popping are atomic.
        self._permits: defaultdict[str, deque[None]] = defaultdict(deque)

    def stand_before(self, executor: Any, triggers: list[Any]) -> None:
        """Have AutoGen ask this guard first, in sync and in async chats, whenever `executor` is to reply."""
        executor.register_reply(triggers, self.authsec_fastapi_reply, position=0)
        executor.register_reply(triggers, self.a_authsec_fastapi_reply, position=0, ignore_async_in_sync_chat=True)

    def own(self, name: str, owner: Any) -> None:
        """Let `owner`, and nobody else, call the tool of this name."""
        self._owners[name] = owner

    def consume(self, name: str) -> bool:
        """Say whether a call of this tool was let through that has not run yet, and count it as run.

        AG2's group patterns take functions out of the executors among their members and call them themselves.
        """
        try:
            self._permits[name].pop()
        except IndexError:
            return False
        return True

    # AG2 pairs sync and async functions by name, so these names must not be anybody else's.
    def authsec_fastapi_reply(self, recipient: Any, messages: Any, sender: Any, config: Any) -> tuple[bool, Any]:
        """Answer a message that calls a tool of another agent; leave every other one to AutoGen's own functions."""
        answer = self._refuse(recipient, messages, sender, config)
        if answer is None:
            return False, None
        # Else a model that insists would never meet max_consecutive_auto_reply, nor the human who watches.
        final, reply = recipient.check_termination_and_human_reply(messages=messages, sender=sender)
        return True, reply if final else answer

    async def a_authsec_fastapi_reply(
        self, recipient: Any, messages: Any, sender: Any, config: Any
    ) -> tuple[bool, Any]:
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
        ours = [(name, arguments) for name, arguments in _called(message) if name in self._owners]
        for name, arguments in ours:
            if self._owners[name] is not author:
                _log.warning("refused to run %s for %s", name, getattr(author, "name", "an unknown author"))
                return _answer(message, refusal("tool_refused", _NOT_YOURS))
            if not _is_object(arguments):  # which AutoGen would not run, so that its permit would be left over
                return _answer(message, refusal("bad_arguments", _NO_OBJECT))
        for name, _ in ours:
            self._permits[name].append(None)
        return None

    def _author(self, message: Message, recipient: Any, sender: Any) -> Any:
        if not isinstance(sender, self._manager):
            return sender
        if "name" not in message:  # the manager names whom it relays; what an agent itself said has no name there
            return recipient
        named = [agent for agent in sender.groupchat.agents if agent.name == message["name"]]
        return named[0] if len(named) == 1 else None


def _called(message: Message) -> Iterator[tuple[str, object]]:
    """Yield the functions that AutoGen would look up, and their arguments, in both forms that a call can have."""
    for call in [message.get("function_call"), *(one.get("function") for one in message.get("tool_calls") or ())]:
        name = call.get("name") if call else None
        if isinstance(name, str):
            yield name, call.get("arguments", "{}")


def _is_object(arguments: object) -> bool:
    try:
        return isinstance(arguments, str) and isinstance(json.loads(arguments, strict=False), dict)
    except (ValueError, RecursionError):  # no JSON, a number of too many digits, brackets in brackets
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
