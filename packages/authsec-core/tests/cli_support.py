"""What the tests of the command line share: a set-up that works, to be broken in one place, and the printed outcome.

It checks one thing, each time: that nothing printed shows a credential.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authsec_core.cli import main
from authsec_core.testing import (
    FakeClock,
    LocalAgent,
    LocalAuthority,
    LoopbackCertificate,
    LoopbackServer,
    Reply,
    Request,
    assert_no_secret,
)

__all__ = ["KEY", "Printed", "SetUp", "running"]

KEY = "agent-7f3a.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"


class Printed:
    """What one run came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def statuses(self) -> dict[str, str]:
        """Each check's status."""
        return {found["check"]: found["status"] for found in self.json["findings"]}

    def finding(self, check: str) -> Mapping[str, str]:
        """What one check found."""
        (found,) = [found for found in self.json["findings"] if found["check"] == check]
        return dict(found)


class SetUp:
    """A running authority and API, and an agent with a key whose settings are in the environment.

    Attributes:
        answer: What the API answers.
        secrets: The key, and every token that was handed out.
    """

    def __init__(
        self,
        authority: LocalAuthority,
        clock: FakeClock,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tls: LoopbackCertificate | None,
    ) -> None:
        self.authority, self.clock = authority, clock
        self.answer: Reply = Reply.of_json({"active_agents": 42})
        self.api = LoopbackServer(self._answer, tls=tls.context if tls else None)
        self.secrets = [KEY]
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.agent: LocalAgent

    def start(self) -> None:
        """Register the agent and let the environment say so."""
        self.agent = self.authority.register("read:metrics read:records", agent_key=KEY)
        self.authority.fail(alter=self._note)
        self.set(**self.authority.environ(self.agent, api_base_url=self.api.base_url))

    def set(self, **variables: str | Path | None) -> None:
        """Set variables of the environment, or unset them."""
        for name, value in variables.items():
            if value is None:
                self._monkeypatch.delenv(name)
            else:
                self._monkeypatch.setenv(name, str(value))

    def spoil(self, **how: Any) -> None:
        """Let the authority fail in one way, from now on."""
        self.authority.recover()
        self.authority.fail(**how)

    def replace_token(self, token: str) -> None:
        """Let the authority hand this one out."""
        self.secrets.append(token)
        self.spoil(alter=lambda reply: {**reply, "token": token})

    def run(self, *argv: str, clock: FakeClock | None = None) -> Printed:
        """Run the command in this process."""
        self._capsys.readouterr()
        code = main(argv, clock=clock or self.clock)
        out, err = self._capsys.readouterr()
        assert_no_secret([out, err], *self.secrets)
        return Printed(code, out, err)

    def doctor(self, *argv: str, clock: FakeClock | None = None) -> Printed:
        """Run the doctor for programs."""
        printed = self.run("doctor", "--json", *argv, clock=clock)
        assert printed.err == ""
        assert printed.code == (0 if printed.json["ok"] else 1) == int("fail" in printed.statuses.values())
        assert all(found["mend"] for found in printed.json["findings"] if found["status"] in {"warn", "fail"})
        assert all("\n" not in found["message"] for found in printed.json["findings"])
        return printed

    def _note(self, reply: dict[str, Any]) -> dict[str, Any]:
        self.secrets += [reply["token"]] if "token" in reply else []
        return reply

    def _answer(self, request: Request) -> Reply:
        return self.answer


@contextmanager
def running(
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tls: LoopbackCertificate | None = None,
) -> Iterator[SetUp]:
    """Start everything."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    assert not [name for name in os.environ if name.startswith("AUTHSEC_")]
    with LocalAuthority(clock=clock, certificate=tls) as authority:
        setup = SetUp(authority, clock, monkeypatch, capsys, tls)
        with setup.api:
            setup.start()
            yield setup
