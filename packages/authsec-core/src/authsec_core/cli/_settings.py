"""Which settings are in force, where each came from, and which variables are none. Pure: it is handed what was read.

Values are shown as text. A secret is shown as `set`, whatever it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from authsec_core._layers import RENAMED, unknown_names, variable
from authsec_core.cli._outcome import Finding

if TYPE_CHECKING:
    from authsec_core.config import AuthSecConfig

__all__ = [
    "Setting",
    "check_mode",
    "check_names",
    "check_settings",
    "settings_in_force",
    "settings_seen",
    "unknown_variables",
]

_HIDDEN: Final = "set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting.

    Attributes:
        variable: The environment variable that sets it.
        value: As text; None where there is none.
        set_by: `argument`, `environment`, `env file` or `default`.
    """

    variable: str
    value: str | None
    set_by: str

    def document(self) -> dict[str, str | None]:
        """Return it for JSON."""
        return asdict(self)


def settings_in_force(config: AuthSecConfig) -> tuple[Setting, ...]:
    """Return every setting, in the order of the documentation."""
    set_by = config.set_by
    return tuple(
        Setting(
            variable=variable(field),
            value=_shown(getattr(config, field)),
            set_by=set_by.get(field, "default"),
        )
        for field in type(config).model_fields
    )


def settings_seen(fields: Iterable[str], environ: Mapping[str, str]) -> tuple[Setting, ...]:
    """Return which settings the environment has, without their values: nobody has checked those yet."""
    names = [name for field in fields for name in _variables(field) if name in environ]
    return tuple(Setting(variable=name, value=_HIDDEN, set_by="environment") for name in names)


def unknown_variables(names: Iterable[str], fields: Iterable[str]) -> tuple[str, ...]:
    """Return which of these variables look like settings of ours and are none."""
    return tuple(sorted(set(unknown_names(map(str.upper, names), fields))))


def check_settings(config: AuthSecConfig) -> Finding:
    """Say that the settings are good: they would not have come so far otherwise."""
    sources = sorted(set(config.set_by.values()))
    where = f"from {', '.join(sources)}" if sources else "nothing is set"
    return Finding(check="settings", status="ok", message=f"they make sense together ({where})")


def check_mode(config: AuthSecConfig) -> Finding:
    """Say which mode these settings mean, and why."""
    if config.resolved_mode == "live" and config.base_url is None:
        return Finding(check="mode", status="ok", message="LIVE: a vault is configured, and no authority")
    if config.resolved_mode == "live":
        why = (
            "AUTHSEC_MODE says so" if config.mode == "live" else "AUTHSEC_BASE_URL and AUTHSEC_AGENT_CLIENT_ID are set"
        )
        return Finding(check="mode", status="ok", message=f"LIVE: {why}")
    if config.mode == "mock":
        return Finding(check="mode", status="ok", message="MOCK, as AUTHSEC_MODE says: tokens and data are samples")
    return Finding(
        check="mode",
        status="warn",
        message="MOCK, because no authority is configured: tokens and data are samples",
        mend="set AUTHSEC_BASE_URL and AUTHSEC_AGENT_CLIENT_ID to go LIVE, or AUTHSEC_MODE=mock if you mean it",
    )


def check_names(unknown: Sequence[str]) -> Finding:
    """Say which variables are ignored."""
    if not unknown:
        return Finding(check="unknown_variables", status="ok", message="no AUTHSEC_ variable is unknown")
    return Finding(
        check="unknown_variables",
        status="warn",
        message=f"not settings, and ignored: {', '.join(unknown)}",
        mend="unset them, or mend their names; docs/configuration.md has them all",
    )


def _variables(field: str) -> tuple[str, ...]:
    return RENAMED.get(field, (variable(field),))


def _shown(value: Any) -> str | None:
    from pydantic import SecretStr

    if value is None:
        return None
    if isinstance(value, SecretStr):
        return _HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps({endpoint: " ".join(scopes) for endpoint, scopes in value.items()}, ensure_ascii=False)
    if isinstance(value, (tuple, frozenset)):
        return " ".join(sorted(value))
    return str(value)
