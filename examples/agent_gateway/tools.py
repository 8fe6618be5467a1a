"""What can the support agent do for a caller? Plain functions; the guard decides who gets which, and at each call.

`caller` is filled in by the guard, from the token of the request: it is not among the arguments of the model.
No `from __future__ import annotations`: agent frameworks read the annotations.
"""

import json
from collections.abc import Callable
from typing import Annotated

from agent_gateway.orders import AlreadyRefundedError, OrderBook
from agent_gateway.reloading import reloaded
from authsec_core.errors import ConfigurationError
from authsec_fastapi import AuthSecGuard, Principal

__all__ = ["support_tools"]


def support_tools(orders: OrderBook, guard: AuthSecGuard) -> list[Callable[..., object]]:
    """Return all tools that there are."""

    def my_orders(caller: Principal) -> str:
        """List the orders of the user who is asking, with their ids."""
        return json.dumps([order.to_dict() for order in orders.of(caller)])

    def refund_order(order_id: Annotated[str, "The order's id, as my_orders lists it."], caller: Principal) -> str:
        """Refund one order of the user who is asking."""
        try:
            order = orders.refund(caller, order_id)
        except AlreadyRefundedError:
            return json.dumps({"error": "That order was refunded before."})
        return json.dumps({"error": "You have no such order."} if order is None else order.to_dict())

    def reload_policy() -> str:
        """Read the rules of who may do what anew from their file."""
        try:
            policy = reloaded(guard)
        except ConfigurationError:
            # What is wrong with the file is for an operator, not for a model.
            return json.dumps({"error": "The policy could not be read. The old one still holds."})
        return json.dumps({"reloaded": True, "roles": sorted(policy.roles), "tools": sorted(policy.tools)})

    return [my_orders, refund_order, reload_policy]
