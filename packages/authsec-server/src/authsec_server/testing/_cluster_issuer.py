"""A Kubernetes cluster, as far as its pods' identity goes: it signs tokens like the kubelet's, and publishes its keys.

Nothing of Kubernetes runs. What the tokens look like is what the API server of release 1.32 writes into them:
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._signing import SigningKey, base64url
from authsec_core.testing import LoopbackServer, Reply, Request

__all__ = ["ClusterIssuer"]

_JWKS: Final = "/openid/v1/jwks"


class ClusterIssuer:
    """The issuer of a cluster's service account tokens, on a free port of 127.0.0.1. Thread-safe.

    Args:
        clock: Where `iat` comes from.

    >>> with ClusterIssuer() as cluster:
    ...     cluster.token("production", "support-sa", audience="https://authority.example.com/authsec")[:3]
    'eyJ'
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards the keys
        self._keys = [SigningKey.generate()]
        self._path = f"/id/{uuid.uuid4().hex[:12]}"  # as EKS has it; and a port may have been another cluster's before
        self._server = LoopbackServer(self._answer)

    def __enter__(self) -> ClusterIssuer:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def start(self) -> None:
        """Answer again, at the same address."""
        self._server.start()

    def stop(self) -> None:
        """Publish nothing until `start`. Tokens can still be had."""
        self._server.close()

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""
        return self._server.base_url + self._path

    @property
    def jwks_url(self) -> str:
        """Where its keys are."""
        return self.issuer + _JWKS

    @property
    def fetches(self) -> int:
        """How often its keys were fetched."""
        return len(self._server.requests)

    def jwks(self) -> dict[str, Any]:
        """Return the published keys (RFC 7517 section 5), as `kubectl get --raw /openid/v1/jwks` prints them."""
        with self._lock:
            keys = list(self._keys)
        return {"keys": [{**key.jwk, "kid": _kid(key)} for key in keys]}

    def rotate(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; keep publishing the old ones, or withdraw them."""
        key = SigningKey.generate()
        with self._lock:
            self._keys = [*(self._keys if keep_old else []), key]

    def token(
        self,
        namespace: str,
        account: str,
        *,
        audience: str,
        ttl: int = 3600,
        omit: Collection[str] = (),
        **claims: object,
    ) -> str:
        """Return the token that a projected volume of a pod would hold.

        Args:
            audience: As the volume asks for it.
            ttl: Seconds.
            omit: Claims to leave out.
            claims: Claims to replace or to add.
        """
        with self._lock:
            key = self._keys[-1]
        usual = {**self._claims(namespace, account, audience, ttl), **claims}
        said = {name: value for name, value in usual.items() if name not in omit}
        return key.sign({"alg": "RS256", "kid": _kid(key)}, said)

    def project(self, path: Path, namespace: str, account: str, *, audience: str, **more: Any) -> None:
        """Write a token to a file, as the kubelet does: readers see the old file or the new one, and no half."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(self.token(namespace, account, audience=audience, **more), encoding="ascii")
        os.replace(fresh, path)

    def _claims(self, namespace: str, account: str, audience: str, ttl: int) -> dict[str, object]:
        now = int(self._clock.wall())
        return {
            "aud": [audience],
            "exp": now + ttl,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": namespace,
                "node": _named("node-1"),
                "pod": _named(f"{account}-7c9d6b5f4-x2x4z"),
                "serviceaccount": _named(account),
            },
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }

    def _answer(self, request: Request) -> Reply:
        if request.path != self._path + _JWKS:
            return Reply(status=404)
        return Reply(headers={"Content-Type": "application/jwk-set+json"}, body=json.dumps(self.jwks()).encode())


def _named(name: str) -> Mapping[str, str]:
    return {"name": name, "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name))}


def _kid(key: SigningKey) -> str:
    """Return the key's id as Kubernetes makes it: of the SHA-256 of the public key in DER."""
    der = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64url(hashlib.sha256(der).digest())
