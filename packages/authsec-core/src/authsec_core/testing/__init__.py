"""What it takes to run agents offline in tests, demos and examples: loopback servers, a clock, a canary scan.

Everything here listens on 127.0.0.1 and nowhere else. Nothing is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsec_core.testing._authority_state import DelegationRequest, IssuedToken, LocalAgent
    from authsec_core.testing._cache_contract import TokenCacheContract
    from authsec_core.testing._canary import assert_no_secret
    from authsec_core.testing._certificate import LoopbackCertificate, loopback_certificate
    from authsec_core.testing._chat import Call, OfferedTool, call
    from authsec_core.testing._clock import FakeClock
    from authsec_core.testing._http import Raw, Reply, Request
    from authsec_core.testing._leaks import LeakScan
    from authsec_core.testing._loopback import LoopbackServer
    from authsec_core.testing._signing import SigningKey
    from authsec_core.testing._source_contract import AsyncTokenSourceContract, TokenSourceContract
    from authsec_core.testing.local_authority import LocalAuthority
    from authsec_core.testing.local_vault import LocalVault
    from authsec_core.testing.mock_authority import RecordingMockAuthority
    from authsec_core.testing.scripted_model import ScriptedModel

__all__ = [
    "AsyncTokenSourceContract",
    "Call",
    "DelegationRequest",
    "FakeClock",
    "IssuedToken",
    "LeakScan",
    "LocalAgent",
    "LocalAuthority",
    "LocalVault",
    "LoopbackCertificate",
    "LoopbackServer",
    "OfferedTool",
    "Raw",
    "RecordingMockAuthority",
    "Reply",
    "Request",
    "ScriptedModel",
    "SigningKey",
    "TokenCacheContract",
    "TokenSourceContract",
    "assert_no_secret",
    "call",
    "loopback_certificate",
]

_HOMES = {
    "AsyncTokenSourceContract": "_source_contract",
    "Call": "_chat",
    "DelegationRequest": "_authority_state",
    "FakeClock": "_clock",
    "IssuedToken": "_authority_state",
    "LeakScan": "_leaks",
    "LocalAgent": "_authority_state",
    "LocalAuthority": "local_authority",
    "LocalVault": "local_vault",
    "LoopbackCertificate": "_certificate",
    "LoopbackServer": "_loopback",
    "OfferedTool": "_chat",
    "Raw": "_http",
    "RecordingMockAuthority": "mock_authority",
    "Reply": "_http",
    "Request": "_http",
    "ScriptedModel": "scripted_model",
    "SigningKey": "_signing",
    "TokenCacheContract": "_cache_contract",
    "TokenSourceContract": "_source_contract",
    "assert_no_secret": "_canary",
    "call": "_chat",
    "loopback_certificate": "_certificate",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
