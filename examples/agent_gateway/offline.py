"""A stand-in for the model, which works without a key and without a network: a few rules instead of a mind.

It sees what a model would see and no more, calls the tools that it was offered, and remembers what stands in its
request. So what one caller's conversation shows of another's would show here too.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any, Final

from authsec_core.testing import Call, call

__all__ = ["reply"]

_THINKING: Final = 20.0  # seconds: enough to revoke somebody meanwhile
_ORDER_ID: Final = re.compile(r"\b[0-9A-F]{6}-\d\b")


def reply(body: Mapping[str, Any]) -> str | Call:
    """Return what the model says or calls next, given a request of chat completions."""
    messages = body["messages"]
    if messages[-1]["role"] == "tool":
        return _told(messages[-1]["content"])
    said = [str(message["content"]) for message in messages if message["role"] == "user"]
    asked = said[-1].lower()
    if "think it over" in asked:
        threading.Event().wait(_THINKING)
        return "I have thought about it."
    offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
    for word, tool in (("refund", "refund_order"), ("order", "my_orders"), ("policy", "reload_policy")):
        if word in asked:
            return _call(tool, said[-1]) if tool in offered else "You may not do that: I was not given a tool for it."
    if "remember" in asked:
        return f"The first thing you said here was: {said[0]}"
    return "I am a few rules in place of a model. Ask me about your orders, for a refund, or what I remember."


def _call(tool: str, asked: str) -> str | Call:
    if tool != "refund_order":
        return call(tool)
    found = _ORDER_ID.search(asked.upper())
    return call(tool, order_id=found[0]) if found else "Which order? Tell me its id."


def _told(result: str) -> str:
    """Say in words what a tool returned."""
    try:
        found = json.loads(result)
    except ValueError:
        return "The tool gave no answer that I understand."
    if isinstance(found, list):
        orders = "; ".join(f"{one['id']}: {one['item']}, {one['price']}, {one['status']}" for one in found)
        return f"You have {len(found)} orders. {orders}."
    if "error" in found:
        return str(found["error"])
    if found.get("status") == "error":
        return f"That was refused ({found['code']}): {found['message']}"
    if found.get("reloaded"):
        return "The policy was read anew."
    return f"Order {found['id']} ({found['item']}) is {found['status']}."
