"""Whose orders are these? Sample data in memory: everybody who calls has two orders of their own, and sees no others.

A real service has a database here. What matters is that every question names its caller.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from authsec_fastapi import Identity, Principal

__all__ = ["AlreadyRefundedError", "Order", "OrderBook"]

_REFUNDED: Final = "refunded"


class AlreadyRefundedError(Exception):
    """The order was refunded before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order."""

    id: str
    item: str
    price: str
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


class OrderBook:
    """The orders of everybody who has called so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[Identity, dict[str, Order]] = {}  # guarded by the lock

    def of(self, caller: Principal) -> list[Order]:
        """Return the caller's orders."""
        with self._lock:
            return list(self._of(caller.identity).values())

    def refund(self, caller: Principal, order_id: str) -> Order | None:
        """Refund one of the caller's orders, and return it; None where they have none of this id.

        Somebody else's order is as unknown as one that does not exist: the answer tells nothing of it.

        Raises:
            AlreadyRefundedError: That was done before.
        """
        with self._lock:
            orders = self._of(caller.identity)
            if order_id not in orders:
                return None
            if orders[order_id].status == _REFUNDED:
                raise AlreadyRefundedError
            orders[order_id] = replace(orders[order_id], status=_REFUNDED)
            return orders[order_id]

    def _of(self, owner: Identity) -> dict[str, Order]:
        if owner not in self._orders:
            mark = hashlib.sha256(repr(owner).encode()).hexdigest()[:6].upper()
            made = (
                Order(id=f"{mark}-1", item="Desk lamp", price="39.00", status="delivered"),
                Order(id=f"{mark}-2", item="Notebook, 5 pieces", price="12.50", status="on its way"),
            )
            self._orders[owner] = {order.id: order for order in made}
        return self._orders[owner]
