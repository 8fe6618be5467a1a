"""What a doctor has found so far, on its way to becoming an outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from authsec_core._version import __version__
from authsec_core.cli._checks import skipped
from authsec_core.cli._outcome import Finding, Outcome, outcome
from authsec_core.cli._settings import Setting
from authsec_core.token import Secret

if TYPE_CHECKING:
    from authsec_core.token import Mode

__all__ = ["Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """What has been found so far."""

    mode: Mode | None = None
    settings: Sequence[Setting] = ()
    findings: list[Finding] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)

    def skip(self, why: str, *checks: str) -> None:
        """Say of checks that nothing can be said of them."""
        self.findings += [skipped(check, why) for check in checks]

    def failed(self, check: str) -> bool:
        """Return whether this was found wrong."""
        return any(finding.check == check and finding.status == "fail" for finding in self.findings)

    def refuse_settings(self, message: str) -> None:
        """Some settings are found wrong only when they are put to use."""
        mend = "mend the setting that it names, then run doctor again"
        self.findings = [finding for finding in self.findings if finding.check != "settings"]
        self.findings.append(Finding(check="settings", status="fail", message=message, mend=mend))

    def outcome(self) -> Outcome:
        """Return what it came to."""
        failed = any(finding.status == "fail" for finding in self.findings)
        document = {
            "version": __version__,
            "ok": not failed,
            "mode": self.mode,
            "settings": [setting.document() for setting in self.settings],
            "findings": [finding.document() for finding in self.findings],
        }
        return outcome("doctor", document, failed=failed, secrets=self.secrets)
