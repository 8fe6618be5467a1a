"""The cluster for tests: its tokens have the form of a real cluster's, and its keys are where a real one has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import jwt

from authsec_core.testing import FakeClock
from authsec_server.testing import ClusterIssuer

AUDIENCE = "https://authority.example.com/authsec"


def test_a_token_has_the_form_of_the_kubelets(clock: FakeClock) -> None:
    """The header and claims that API servers write, and a key that others find by its id."""
    with ClusterIssuer(clock=clock) as cluster:
        token = cluster.token("production", "support-sa", audience=AUDIENCE, ttl=600)
        published = jwt.PyJWKSet.from_dict(httpx.get(cluster.jwks_url, trust_env=False).json())
        header = jwt.get_unverified_header(token)
        assert header == {"alg": "RS256", "kid": published.keys[0].key_id}
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
        claims = jwt.decode(
            token, published[header["kid"]], ["RS256"], options, audience=AUDIENCE, issuer=cluster.issuer
        )
    now = int(clock.wall())
    assert claims["sub"] == "system:serviceaccount:production:support-sa"
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (now, now, now + 600)
    assert claims["kubernetes.io"].keys() == {"namespace", "node", "pod", "serviceaccount"}
    assert claims.keys() == {"aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"}


def test_keys_are_rotated_and_the_address_stays(clock: FakeClock) -> None:
    """The old keys stay until they are withdrawn; what is away comes back where it was."""
    with ClusterIssuer(clock=clock) as cluster:
        cluster.rotate()
        assert len(cluster.jwks()["keys"]) == 2
        cluster.rotate(keep_old=False)
        (key,) = cluster.jwks()["keys"]
        assert jwt.get_unverified_header(cluster.token("a", "b", audience=AUDIENCE))["kid"] == key["kid"]
        url = cluster.jwks_url
        cluster.stop()
        cluster.start()
        assert httpx.get(url, trust_env=False).json() == {"keys": [key]}
        assert (cluster.fetches, httpx.get(cluster.issuer, trust_env=False).status_code) == (1, 404)


def test_a_projected_file_is_replaced_whole(clock: FakeClock, tmp_path: Path) -> None:
    """One token is in it at any time, and nothing else in the folder."""
    file = tmp_path / "token"
    with ClusterIssuer(clock=clock) as cluster:
        cluster.project(file, "a", "b", audience=AUDIENCE)
        first = file.read_text()
        cluster.project(file, "a", "b", audience=AUDIENCE)
    assert file.read_text() != first
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
