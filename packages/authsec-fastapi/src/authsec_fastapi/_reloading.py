"""Where does a guard's policy come from, and may another one take its place? `policy_file` reads it.

Whoever decides takes the judge's policy once, and so goes by the old one or by the new one, never by a mixture.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from authsec_core.errors import ConfigurationError
from authsec_fastapi._policy_doubts import doubts
from authsec_fastapi.policy import NOTHING_PERMITTED, Policy
from authsec_fastapi.policy_file import load_policy
from authsec_fastapi.requirement import Requirement, check_known

if TYPE_CHECKING:
    from authsec_fastapi.judging import Judge

__all__ = ["PolicySource", "Reloading"]

PolicySource: TypeAlias = Policy | str | os.PathLike[str]

_log = logging.getLogger("authsec.guard")


class Reloading:
    """Where a policy comes from, and what the application has asked of it. Thread-safe.

    Args:
        source: A policy, the path of a file with one, or None: then no role permits anything.

    Attributes:
        first: The policy to begin with.

    Raises:
        ConfigurationError: The file cannot be read, or is no policy.
    """

    def __init__(self, source: PolicySource | None) -> None:
        self._any_role = source is None
        self._path: Path | None = None
        self._asked: set[Requirement] = set()
        self._lock = threading.Lock()  # one change at a time, and none while a requirement is being checked
        if source is None or isinstance(source, Policy):
            self.first = source or NOTHING_PERMITTED
            return
        if not isinstance(source, (str, os.PathLike)):
            raise ConfigurationError("policy= takes a Policy, or the path of a file with one")
        self._path = Path(source).absolute()  # the folder that a process works in may change
        self.first = load_policy(self._path)

    def remember(self, requirement: Requirement, judge: Judge) -> Requirement:
        """Return the requirement, which from now on each policy has to know.

        Raises:
            ConfigurationError: The one in force does not.
        """
        with self._lock:
            check_known(requirement, judge.policy, any_role=self._any_role)
            self._asked.add(requirement)
        return requirement

    def remember_roles(self, roles: Iterable[str], judge: Judge) -> None:
        """Have each policy know the roles of the static token: by a role that it does not know nobody gets in.

        Raises:
            ConfigurationError: The one in force does not.
        """
        for role in sorted(roles):
            try:
                self.remember(Requirement(role=role), judge)
            except ConfigurationError as exc:
                raise ConfigurationError(f"the static token's role: {exc.message}") from None

    def reload(self, judge: Judge, check: Callable[[Policy], None] | None = None) -> Policy:
        """Read the file anew, have the judge go by its policy and return it. Blocks on the disk.

        Args:
            check: Looks at the new policy first, with the lock held: what comes back here waits for ever.

        Raises:
            ConfigurationError: It cannot take the place of the one in force, which stays.
        """
        with self._lock:
            try:
                policy = self._successor(judge.policy)
                if check is not None:
                    check(policy)
            except ConfigurationError as exc:
                _log.error("the policy stays as it was: %s", exc.message)
                raise ConfigurationError(f"the policy stays as it was: {exc.message}") from exc
            judge.policy = policy
            asked = {one.action for one in self._asked if one.action is not None}
        counts = (len(policy.roles), len(policy.tools), len(policy.routes))
        _log.info("a new policy is in force: %d roles, %d tools, %d routes", *counts)
        for doubt in doubts(policy, asked):
            _log.warning("the new policy: %s", doubt)
        return policy

    def _successor(self, current: Policy) -> Policy:
        if self._path is None:
            raise ConfigurationError("it was not read from a file: give policy= the path of one")
        policy = load_policy(self._path)
        for requirement in self._asked:
            try:
                check_known(requirement, policy)
            except ConfigurationError as exc:
                raise ConfigurationError(f"{self._path} lacks what the application asks for: {exc.message}") from exc
        if current.routes and not policy.routes:
            # A file that was cut off looks like this, and each good token would open each route.
            raise ConfigurationError(f"{self._path} has no routes any more: restart the service if that is meant")
        return policy
