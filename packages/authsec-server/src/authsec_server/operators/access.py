"""Which role may do what. Pure; whatever is not named here may do nothing.

| role | read | manage | administer |
| --- | --- | --- | --- |
| auditor | yes | | |
| operator | yes | yes | |
| admin | yes | yes | yes |

To *read* is every GET, and the dry run. To *manage* is to onboard, disable and revoke agents and their keys, to make,
change and revoke trust delegations, to revoke tokens, to say what agents may do in the vault, and to approve tokens for
it. To *administer* is to say what roles mean, which issuers vouch for workloads and users, who operates the authority,
and which keys sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["OPERATOR_ROLES", "Access", "OperatorRole", "allows"]

Access = Literal["read", "manage", "administer"]
OperatorRole = Literal["admin", "operator", "auditor"]

_GIVEN: Final[Mapping[str, frozenset[Access]]] = {
    "auditor": frozenset({"read"}),
    "operator": frozenset({"read", "manage"}),
    "admin": frozenset({"read", "manage", "administer"}),
}
OPERATOR_ROLES: Final[tuple[OperatorRole, ...]] = ("admin", "operator", "auditor")


def allows(role: str, needs: Access) -> bool:
    """Return whether an operator of this role may do what needs this access.

    >>> allows("operator", "manage"), allows("operator", "administer"), allows("Admin", "read")
    (True, False, False)
    """
    return needs in _GIVEN.get(role, frozenset())
