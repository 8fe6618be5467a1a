"""Reading the policy anew, by the route or by the agent's tool, in a way that leaves it possible to do so again."""

from __future__ import annotations

from typing import Final

from authsec_core.errors import ConfigurationError
from authsec_fastapi import AuthSecGuard, Policy
from authsec_fastapi.routing import match_route

__all__ = ["RELOAD_PATH", "reloaded"]

RELOAD_PATH: Final = "/admin/reload"


def reloaded(guard: AuthSecGuard) -> Policy:
    """Put the policy's file in force and return it. Blocks on the disk.

    Raises:
        ConfigurationError: It is no policy, or lets nobody reload it any more. The old one stays.
    """
    before = guard.policy

    def check(policy: Policy) -> None:
        if _can_be_reloaded(before) and not _can_be_reloaded(policy):
            raise ConfigurationError(
                f"nobody could reload it again: give it a rule for POST {RELOAD_PATH} that is not public, or restart "
                "the gateway if that is meant"
            )

    return guard.reload_policy(check=check)


def _can_be_reloaded(policy: Policy) -> bool:
    # A public rule lets nobody in: the route is not made for callers who do not say who they are.
    rule = match_route(policy.routes, "POST", RELOAD_PATH)
    return rule is not None and not rule.public
