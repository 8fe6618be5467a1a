"""The doctor's part about the vault: which vault is meant, and what is shown to it. `_vault_checks` judges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from authsec_core._clock import Clock
from authsec_core.cli._checks import SKIPPED_UNREACHED
from authsec_core.cli._outcome import Finding
from authsec_core.cli._probes import Probes
from authsec_core.cli._report import Report
from authsec_core.cli._vault_checks import VAULT_CHECKS, VaultAsked, vault_findings
from authsec_core.errors import ConfigurationError
from authsec_core.vault_config import VaultConfig

__all__ = ["check_vault", "vault_alone"]

_OWN: Final = ("AUTHSEC_VAULT_TOKEN", "ASS_AGENT_KEY", "ASS_API_URL")  # settings that `AuthSecConfig` does not know


def vault_alone(env_file: Path | None) -> VaultConfig | None:
    """Return the settings of the vault where they are all that there is: no authority, and no agent's client id.

    Raises:
        ConfigurationError: A setting that the vault alone has is wrong.
    """
    try:
        config = VaultConfig(env_file=env_file)
    except ConfigurationError as exc:
        if exc.message.startswith(_OWN):
            raise
        return None  # the settings as a whole will say it better
    is_all = config.resolved_mode == "live" and config.base_url is None and config.client_id is None
    return config if is_all else None


def check_vault(
    report: Report, env_file: Path | None, probes: Probes, clock: Clock, notify: Callable[[str], None]
) -> None:
    """Add what is found of the vault that these settings mean."""
    if report.mode == "mock":
        report.skip("MOCK mode asks no vault", *VAULT_CHECKS)
        return
    try:
        asked = VaultAsked(config=VaultConfig(env_file=env_file))
    except ConfigurationError as exc:
        mend = "mend the setting that it names, then run doctor again"
        report.findings.append(Finding(check="vault", status="fail", message=exc.message, mend=mend))
        report.skip("it is not clear which vault is meant", *VAULT_CHECKS[1:])
        return
    if asked.variable == "AUTHSEC_BASE_URL" and report.failed("authority"):
        report.skip(SKIPPED_UNREACHED, *VAULT_CHECKS)
        return
    report.secrets += [] if asked.credential is None else [asked.credential]
    notify("Asking the vault")
    report.findings += vault_findings(asked, probes.knock, clock.wall)
