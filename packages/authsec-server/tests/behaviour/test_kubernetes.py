"""Pods without any secret: the token that the kubelet projects is the proof, through our own SDK and a whole authority.

The tokens are made like the kubelet's, by an issuer on loopback.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from behaviour.support import OpenSite, Site, inside, peek
from behaviour.workloads import POD, agent_in, bring, change, fetch, register, sdk

from authsec_core.errors import (
    AuthorityUnreachableError,
    DelegationRefusedError,
    RevokedTokenError,
)
from authsec_core.testing import FakeClock
from authsec_server.authority import Authority
from authsec_server.testing import ClusterIssuer
from authsec_server.tokens import withdraw


@pytest.fixture
def cluster() -> Iterator[ClusterIssuer]:
    """A cluster that nobody has registered."""
    with ClusterIssuer() as one:
        yield one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the kubelet puts the pod's token."""
    return tmp_path / "token"


@pytest.fixture
def moving(open_site: OpenSite) -> Iterator[tuple[Site, ClusterIssuer]]:
    """An authority and a cluster by one clock, which only the test moves."""
    clock = FakeClock()
    with open_site(clock=clock) as site, ClusterIssuer(clock=clock) as one:
        yield site, one


def _is_refused(site: Site, agent: Any, token: str) -> bool:
    """Return whether this proof gets no token, with the one answer that all bad proofs get, and an entry."""
    reply = bring(site, agent, token)
    if reply.status_code == 200:
        return False
    assert (reply.status_code, reply.json()["details"]) == (401, "proof_wrong")
    assert token not in reply.text
    (*_, last) = site.entries(client_id=agent.client_id, action="token.issue")
    return bool(last["decision"] == "deny" and last["reason"] == "proof_wrong")


@pytest.mark.req("RU1")
def test_the_right_pod_gets_a_token_without_any_secret(site: Site, cluster: ClusterIssuer, file: Path) -> None:
    """The SDK sends the token from the file; what comes back is a token like any other, and the audit says why."""
    issuer = register(site, cluster)
    agent = agent_in(site, issuer)
    cluster.project(file, *POD, audience=site.authority.issuer)
    token = fetch(agent, file)
    assert (token.client_id, token.spiffe_id) == (agent.client_id, agent.spiffe_id)
    assert agent.spiffe_id.endswith("/ns/production/sa/support-sa")
    with site.verifier() as verifier:
        assert verifier.verify(token.value).scopes == {"read:metrics"}
    (entry,) = site.entries(client_id=agent.client_id, action="token.issue")
    assert (entry["decision"], entry["actor"]["id"]) == ("allow", agent.client_id)
    assert entry["details"]["proof"] == "workload"
    assert entry["details"]["issuer"] == issuer["name"]
    assert entry["details"]["workload"] == "system:serviceaccount:production:support-sa"
    assert site.admin("GET", f"/tokens/{token.jti}")["key_id"] == issuer["issuer_id"]
    assert cluster.fetches == 1


def test_a_token_does_not_outlive_the_pods_own(site: Site, cluster: ClusterIssuer) -> None:
    """What proved who asks ends in two minutes, and so does what was got with it."""
    agent = agent_in(site, register(site, cluster))
    proof = cluster.token(*POD, audience=site.authority.issuer, ttl=120)
    got = peek(bring(site, agent, proof).json()["token"])
    assert got["exp"] <= peek(proof)["exp"]


@pytest.mark.parametrize(
    ("namespace", "account"),
    [("staging", "support-sa"), ("production", "other-sa"), ("production-x", "support-sa"), ("production", "support")],
)
def test_another_workload_of_the_cluster_does_not(
    site: Site, cluster: ClusterIssuer, file: Path, namespace: str, account: str
) -> None:
    """Another namespace or another service account, however similar its name, is another workload."""
    agent = agent_in(site, register(site, cluster))
    token = cluster.token(namespace, account, audience=site.authority.issuer)
    assert _is_refused(site, agent, token)
    cluster.project(file, namespace, account, audience=site.authority.issuer)
    with pytest.raises(DelegationRefusedError) as caught:
        fetch(agent, file)
    assert caught.value.reason == "proof_rejected"


def test_every_selector_of_the_agent_has_to_be_proven(site: Site, cluster: ClusterIssuer) -> None:
    """A pod or node that the agent names has to be the token's; what no token proves is never proven."""
    issuer = register(site, cluster)
    token = cluster.token(*POD, audience=site.authority.issuer)
    said = peek(token)["kubernetes.io"]
    good = {"k8s:pod-name": said["pod"]["name"], "k8s:pod-uid": said["pod"]["uid"], "k8s:node-name": "node-1"}
    assert bring(site, agent_in(site, issuer, **good), token).status_code == 200
    for name in good:
        assert _is_refused(site, agent_in(site, issuer, **{**good, name: "another"}), token)
    assert _is_refused(site, agent_in(site, issuer, **{"k8s:pod-label:app": "support"}), token)
    assert _is_refused(site, site.onboard(platform="kubernetes", selectors={"k8s:ns": POD[0]}), token)
    assert _is_refused(site, site.onboard(), token)


def test_an_expired_token_gets_nothing(moving: tuple[Site, ClusterIssuer]) -> None:
    """To the second: a token is good until its end, with a second left for the one that it is to get."""
    site, cluster = moving
    agent = agent_in(site, register(site, cluster))
    token = cluster.token(*POD, audience=site.authority.issuer, ttl=600)
    site.fake.advance(598)
    assert bring(site, agent, token).status_code == 200
    site.fake.advance(2)
    assert _is_refused(site, agent, token)
    site.fake.advance(3600)
    assert _is_refused(site, agent, token)
    assert _is_refused(
        site, agent, cluster.token(*POD, audience=site.authority.issuer, nbf=int(site.clock.wall()) + 60)
    )


def test_another_cluster_gets_nothing(site: Site, cluster: ClusterIssuer) -> None:
    """Namespace and account are the same there: unregistered, registered, and in the other one's name."""
    home = register(site, cluster)
    agent, nowhere = agent_in(site, home), agent_in(site, None)
    with ClusterIssuer() as other:
        token = other.token(*POD, audience=site.authority.issuer)
        assert _is_refused(site, agent, token)
        register(site, other)
        assert _is_refused(site, agent, token)
        assert _is_refused(site, nowhere, token)
        assert _is_refused(site, agent, other.token(*POD, audience=site.authority.issuer, iss=cluster.issuer))
    # An agent that names no cluster belongs to the default one, and until there is one to none.
    good = cluster.token(*POD, audience=site.authority.issuer)
    assert bring(site, agent, good).status_code == 200
    assert _is_refused(site, nowhere, good)
    change(site, home, is_default=True)
    token = bring(site, nowhere, good).json()["token"]
    change(site, home, is_default=False)
    assert _is_refused(site, nowhere, good)
    site.forget_lists()
    assert site.is_listed(token)


@pytest.mark.parametrize("audience", ["https://kubernetes.default.svc", "authsec-api", ""])
def test_a_token_for_another_audience_gets_nothing(site: Site, cluster: ClusterIssuer, audience: str) -> None:
    """The pod's usual token, which every API that it talks to has seen, is no proof here."""
    agent = agent_in(site, register(site, cluster))
    assert _is_refused(site, agent, cluster.token(*POD, audience=audience or f"{site.authority.issuer}/"))


@pytest.mark.parametrize(
    "change",
    [
        {"kubernetes.io": {"namespace": "production"}},
        {"sub": "system:serviceaccount:staging:support-sa"},
        {"sub": "production:support-sa"},
        {"iat": 1.5},
        {"aud": []},
    ],
    ids=str,
)
def test_an_odd_token_of_the_right_cluster_gets_nothing(
    site: Site, cluster: ClusterIssuer, change: dict[str, Any]
) -> None:
    """What the API server does not write is not read with good will."""
    agent = agent_in(site, register(site, cluster))
    audience = site.authority.issuer
    assert _is_refused(site, agent, cluster.token(*POD, audience=audience, **change))
    for missing in ("kubernetes.io", "exp", "iat", "sub", "aud", "iss"):
        assert _is_refused(site, agent, cluster.token(*POD, audience=audience, omit=[missing]))


@pytest.mark.inside
@pytest.mark.req("RV9")
def test_a_disabled_cluster_loses_its_tokens(site: Site, cluster: ClusterIssuer) -> None:
    """Its proofs count no more, on each replica, and what was got with them is revoked; enabled again, it goes on."""
    issuer = register(site, cluster)
    agent, keyed = agent_in(site, issuer), site.onboard()
    proof = cluster.token(*POD, audience=site.authority.issuer)
    token, other = bring(site, agent, proof).json()["token"], site.token(keyed)
    with site.replica() as replica, site.verifier() as verifier:
        assert bring(replica, agent, proof).status_code == 200
        assert verifier.verify(token).client_id == agent.client_id
        assert change(site, issuer, enabled=False)["revision"] == 2
        for each in (replica, site):  # the replica remembers the issuer, and is told in the transaction
            assert _is_refused(each, agent, proof)
        site.forget_lists()
        with site.verifier() as fresh, pytest.raises(RevokedTokenError):
            fresh.verify(token)
        assert not site.is_listed(other)
        change(site, issuer, enabled=True)
        assert bring(site, agent, proof).status_code == 200
    (entry,) = site.entries(action="issuer.change")[-2:-1]
    assert entry["details"]["withdrawn"] == 2
    site.admin("POST", f"/issuers/{issuer['issuer_id']}/revoke", status=200)
    assert _is_refused(site, agent, proof)
    site.admin("PATCH", f"/issuers/{issuer['issuer_id']}", json={"enabled": True}, status=409)


@pytest.mark.inside
@pytest.mark.req("RV9")
def test_a_crowd_of_tokens_does_not_keep_a_cluster(
    site: Site, cluster: ClusterIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more tokens than a transaction looks through, the cluster is disabled at once, and the rest follows."""
    issuer = register(site, cluster)
    agent, keyed = agent_in(site, issuer), site.onboard()
    proof = cluster.token(*POD, audience=site.authority.issuer)
    jtis = [bring(site, agent, proof).json()["jti"] for _ in range(7)]
    other = site.ask(keyed).json()["jti"]
    monkeypatch.setattr(withdraw, "MOST_AT_ONCE", 4)
    change(site, issuer, enabled=False)
    (*_, entry) = site.entries(action="issuer.change")
    assert entry["details"]["withdrawn"] == 3

    async def finish(inner: Authority) -> None:
        await withdraw.Withdrawals(inner.database, inner.ledger).finish()

    change(site, issuer, enabled=True)
    later = bring(site, agent, proof).json()["jti"]
    inside(site, finish)
    for jti in jtis:
        assert site.admin("GET", f"/tokens/{jti}")["revoked_at"] is not None
    for jti in (other, later):
        assert site.admin("GET", f"/tokens/{jti}")["revoked_at"] is None


def test_rotated_keys_of_the_cluster_work(moving: tuple[Site, ClusterIssuer]) -> None:
    """A new key counts with its first token, the old one as long as it is published, and then no more."""
    site, cluster = moving
    agent, audience = agent_in(site, register(site, cluster)), site.authority.issuer
    old = cluster.token(*POD, audience=audience)
    assert bring(site, agent, old).status_code == 200
    site.fake.advance(1)
    cluster.rotate()
    for token in (cluster.token(*POD, audience=audience), old):
        assert bring(site, agent, token).status_code == 200
    site.fake.advance(1)
    cluster.rotate(keep_old=False)
    assert bring(site, agent, cluster.token(*POD, audience=audience)).status_code == 200
    assert _is_refused(site, agent, old)


def test_keys_that_are_given_need_no_address(site: Site, cluster: ClusterIssuer) -> None:
    """A cluster whose API server nobody can reach is registered with its key set; new keys replace it."""
    issuer = register(site, cluster, jwks_url=None, jwks=cluster.jwks())
    agent, audience = agent_in(site, issuer), site.authority.issuer
    old = cluster.token(*POD, audience=audience)
    token = bring(site, agent, old).json()["token"]
    cluster.rotate(keep_old=False)
    assert _is_refused(site, agent, cluster.token(*POD, audience=audience))
    change(site, issuer, jwks=cluster.jwks())
    assert bring(site, agent, cluster.token(*POD, audience=audience)).status_code == 200
    assert _is_refused(site, agent, old)
    assert cluster.fetches == 0
    site.forget_lists()
    assert site.is_listed(token)


def test_another_servers_change_makes_no_good_proof_wrong(moving: tuple[Site, ClusterIssuer]) -> None:
    """A server that remembers the cluster as it was a moment ago looks again before it refuses, or says "try again"."""
    site, cluster = moving
    audience = site.authority.issuer
    with site.replica() as replica:
        agent = agent_in(site, issuer := register(site, cluster, jwks_url=None, jwks=cluster.jwks()))
        old = cluster.token(*POD, audience=audience)
        assert bring(replica, agent, old).status_code == 200
        cluster.rotate(keep_old=False)
        change(site, issuer, jwks=cluster.jwks())
        assert replica.ask(agent, f"Bearer {old}").status_code == 503
        assert bring(replica, agent, cluster.token(*POD, audience=audience)).status_code == 200
        assert _is_refused(replica, agent, old)
        with ClusterIssuer(clock=site.fake) as other:
            assert _is_refused(replica, agent, other.token(*POD, audience=audience))
            new = agent_in(site, register(site, other))
            assert bring(replica, new, other.token(*POD, audience=audience)).status_code == 200


def test_without_the_clusters_keys_there_is_no_token(site: Site, cluster: ClusterIssuer, file: Path) -> None:
    """503, which the SDK tries again later: never a token, and no word that the proof is wrong."""
    agent = agent_in(site, register(site, cluster))
    cluster.project(file, *POD, audience=site.authority.issuer)
    cluster.stop()
    reply = bring(site, agent, file.read_text())
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    with pytest.raises(AuthorityUnreachableError):
        fetch(agent, file)
    assert site.entries(client_id=agent.client_id, action="token.issue") == []


def test_an_outage_is_survived_for_an_hour(moving: tuple[Site, ClusterIssuer]) -> None:
    """Known keys serve while the cluster is away, until they are too old; then it is 503 until it is back."""
    site, cluster = moving
    agent = agent_in(site, register(site, cluster))
    token = cluster.token(*POD, audience=site.authority.issuer, ttl=10_000)
    assert bring(site, agent, token).status_code == 200
    cluster.stop()
    site.fake.advance(200)
    assert bring(site, agent, token).status_code == 200
    site.fake.advance(3601)
    assert bring(site, agent, token).status_code == 503
    cluster.start()
    site.fake.advance(10)
    assert bring(site, agent, token).status_code == 200


def test_a_file_that_the_kubelet_replaces_is_read_again(moving: tuple[Site, ClusterIssuer], file: Path) -> None:
    """One client, and a token that ends: with the old file it is refused, with the new one it goes on."""
    site, cluster = moving
    agent, audience = agent_in(site, register(site, cluster)), site.authority.issuer
    cluster.project(file, *POD, audience=audience, ttl=600)
    with sdk(agent, file) as client:
        first = client.get_delegation_token("read:metrics")
        site.fake.advance(601)
        with pytest.raises(DelegationRefusedError):
            client.get_delegation_token("read:metrics", force_refresh=True)
        cluster.project(file, *POD, audience=audience, ttl=600)
        assert client.get_delegation_token("read:metrics", force_refresh=True) != first


@pytest.mark.parametrize("form", ["eyJ.eyJ.AA", "eyJhbGciOiJub25lIn0.e30.AA", "eyJ" + "A" * 9000 + ".e30.AA"])
def test_what_only_looks_like_a_token_is_a_wrong_proof(site: Site, form: str) -> None:
    """Garbage in the form of a JWT is refused like any other proof, and asks nobody for keys."""
    assert _is_refused(site, site.onboard(), form)
