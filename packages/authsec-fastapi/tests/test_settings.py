"""The guard's settings: what a variable may say, what wins, and that a mistake keeps the service from starting."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from guard_support import AUDIENCE, ISSUER, Issuer, Memory

from authsec_core import AuthSecConfig, ConfigurationError
from authsec_fastapi import AuthSecGuard, GuardSettings, Policy, StaticToken, TrustedIssuer

KEY = "canary.of-a-client-key"
STATIC = "canary-of-a-static-token"


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables after `AUTHSEC_GUARD_`."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"AUTHSEC_GUARD_{name}", value)

    return set_all


def one(**given: Any) -> TrustedIssuer:
    """Return the one issuer that the settings say to trust."""
    [trusted] = GuardSettings(**given).trusted_issuers()
    return trusted


def test_every_variable_arrives_in_the_terms(setenv: Any, tmp_path: Path) -> None:
    """What is set in the environment is what the guard trusts, each in its own type."""
    setenv(
        ISSUER="https://idp.example/",
        AUDIENCE="api, other-api",
        JWKS_URL="https://idp.example/keys?v=1",
        PROFILE="oidc",
        ROLES_CLAIM="realm_access.roles",
        SCOPES_CLAIM='["https://shop.example/scp"]',
        REVOCATION="introspection",
        REVOCATION_MAX_AGE="7.5",
        JWKS_REFRESH="60",
        JWKS_MAX_AGE="600",
        LEEWAY="0",
        REMEMBER="0",
        ALLOW_HTTP="false",
        CLIENT_ID="guard",
        CLIENT_KEY=KEY,
        INTROSPECTION_URL="https://idp.example/introspect",
        INTROSPECTION_MAX_AGE="2",
    )
    trusted = one()
    asked = trusted.introspection
    assert asked is not None
    assert (asked.client_id, asked.url, asked.max_age) == ("guard", "https://idp.example/introspect", 2.0)
    assert trusted == TrustedIssuer(
        issuer="https://idp.example/",
        audience=("api", "other-api"),
        jwks_url="https://idp.example/keys?v=1",
        profile="oidc",
        roles_claim="realm_access.roles",
        scopes_claim=("https://shop.example/scp",),
        revocation="introspection",
        introspection=asked,
        revocation_max_age=7.5,
        jwks_refresh=60.0,
        jwks_max_age=600.0,
        leeway=0.0,
        remember=0,
        allow_http=False,
    )
    guard = AuthSecGuard()
    assert KEY not in repr(trusted) + repr(GuardSettings()) + repr(vars(guard))


def test_a_guard_reads_the_environment(setenv: Any) -> None:
    """`AuthSecGuard()` with nothing else is a guard by its variables; realm and audit-first are among them."""
    setenv(ISSUER="https://a.example/authsec", AUDIENCE="api", REALM="shop", AUDIT_FIRST="false")
    guard = AuthSecGuard()
    assert guard.realm == "shop"
    assert AuthSecGuard(realm="other").realm == "other"
    assert not guard.judge.recorder._audit_first
    assert AuthSecGuard(audit_first=True).judge.recorder._audit_first


def test_arguments_win(setenv: Any) -> None:
    """Of the same setting the argument counts, and issuers that code names replace those of the environment."""
    setenv(ISSUER="https://a.example", AUDIENCE="api", LEEWAY="9")
    trusted = one(issuer="https://b.example", audience="other")
    assert (trusted.issuer, trusted.audience, trusted.leeway) == ("https://b.example", ("other",), 9.0)
    mine = Issuer().trusted()
    assert GuardSettings().trusted_issuers([mine]) == [mine]
    setenv(ISSUERS='[{"issuer": "https://c.example", "audience": "c"}]')
    assert GuardSettings().trusted_issuers([mine]) == [mine]
    assert one(issuer="https://b.example").issuer == "https://b.example"


@pytest.mark.parametrize("name", ["JWKS_URL", "INTROSPECTION_URL", "CLIENT_KEY"])
def test_the_keys_of_one_issuer_are_not_those_of_another(setenv: Any, name: str) -> None:
    """A variable beside another issuer than the argument's brings neither its keys nor the guard's own key along."""
    setenv(ISSUER="https://a.example", AUDIENCE="api", **{name: "https://a.example/x"})
    with pytest.raises(ConfigurationError, match=f"AUTHSEC_GUARD_{name}"):
        GuardSettings(issuer="https://b.example")
    assert GuardSettings(issuer="https://a.example").issuer == "https://a.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROFILE", "oidc"),
        ("ROLES_CLAIM", "nickname"),
        ("SCOPES_CLAIM", "scp"),
        ("REVOCATION", "when-present"),
        ("CA_FILE", "private.pem"),
        ("ALLOW_HTTP", "true"),
    ],
)
def test_what_was_said_of_one_issuer_does_not_open_the_door_to_another(
    setenv: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    """How to read tokens, and how strictly, holds for the issuer that it was set beside; so also between two layers."""
    setenv(ISSUER="https://a.example", AUDIENCE="api", **{name: value})
    with pytest.raises(ConfigurationError, match=rf"\(AUTHSEC_GUARD_{name}\) was set for another issuer"):
        GuardSettings(issuer="https://b.example")
    assert GuardSettings(issuer="https://a.example").set_by[name.lower()] == "environment"
    (tmp_path / ".env").write_text(f"AUTHSEC_GUARD_ISSUER=https://c.example\nAUTHSEC_GUARD_{name}={value}\n")
    monkeypatch.delenv(f"AUTHSEC_GUARD_{name}")
    setenv(ENV_FILE=str(tmp_path / ".env"))
    with pytest.raises(ConfigurationError, match="was set for another issuer"):
        GuardSettings()


def test_what_is_the_services_own_holds_for_every_issuer(setenv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of its API and its patience, and what was set beside no issuer at all."""
    setenv(ISSUER="https://a.example", AUDIENCE="api", LEEWAY="9", JWKS_MAX_AGE="7200", REMEMBER="7")
    trusted = one(issuer="https://b.example")
    assert (trusted.audience, trusted.leeway, trusted.jwks_max_age, trusted.remember) == (("api",), 9.0, 7200.0, 7)
    monkeypatch.delenv("AUTHSEC_GUARD_ISSUER")
    setenv(ROLES_CLAIM="roles_of_the_shop")
    assert one(issuer="https://b.example").roles_claim == "roles_of_the_shop"


def test_several_issuers_are_a_list_of_terms(setenv: Any) -> None:
    """JSON with the names of `TrustedIssuer`; what is written there is checked as strictly as arguments are."""
    setenv(
        ISSUERS=json.dumps(
            [
                {"issuer": ISSUER, "audience": AUDIENCE, "leeway": 1},
                {
                    "issuer": "https://idp.example",
                    "audience": ["api"],
                    "profile": "oidc",
                    "jwks_url": "https://idp.example/keys",
                    "roles_claim": ["https://shop.example/roles"],
                    "revocation": "introspection",
                    "introspection": {"client_id": "guard", "client_key": KEY, "url": "https://idp.example/i"},
                },
            ]
        )
    )
    ours, theirs = GuardSettings().trusted_issuers()
    assert ours == TrustedIssuer(issuer=ISSUER, audience=AUDIENCE, leeway=1)
    assert (theirs.audience, theirs.roles_claim) == (("api",), ("https://shop.example/roles",))
    assert theirs.introspection is not None
    assert KEY not in repr(theirs) + repr(AuthSecGuard(sink=Memory()))


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ISUER": "https://a.example"}, "AUTHSEC_GUARD_ISUER is not a setting: did you mean AUTHSEC_GUARD_ISSUER?"),
        ({"AUDIENCES": "a"}, "did you mean AUTHSEC_GUARD_AUDIENCE?"),
        ({"WHATEVER": "1"}, "AUTHSEC_GUARD_WHATEVER is not a setting: unset it"),
        ({"PORT": "8080"}, "AUTHSEC_GUARD_PORT is not a setting"),
        ({"AUDIENCE": " "}, "AUTHSEC_GUARD_AUDIENCE is set but blank"),
        ({"CLIENT_KEY": ""}, "AUTHSEC_GUARD_CLIENT_KEY is set but blank"),
        ({"ENV_FILE": "/nowhere/at/all"}, "AUTHSEC_GUARD_ENV_FILE: the file is not there"),
        ({"AUDIENCE": ", ,"}, r"audience \(AUTHSEC_GUARD_AUDIENCE\): names nothing"),
        ({"PROFILE": "jwt"}, r"profile \(AUTHSEC_GUARD_PROFILE\): Input should be 'delegation'"),
        ({"REVOCATION": "off"}, r"revocation \(AUTHSEC_GUARD_REVOCATION\): Input should be 'required'"),
        ({"JWKS_REFRESH": "0"}, "AUTHSEC_GUARD_JWKS_REFRESH.*greater than 0"),
        ({"JWKS_MAX_AGE": "nan"}, "AUTHSEC_GUARD_JWKS_MAX_AGE"),
        ({"LEEWAY": "-1"}, "AUTHSEC_GUARD_LEEWAY"),
        ({"REMEMBER": "many"}, "AUTHSEC_GUARD_REMEMBER"),
        ({"AUDIT_FIRST": "perhaps"}, "AUTHSEC_GUARD_AUDIT_FIRST"),
        ({"ALLOW_HTTP": "2"}, "AUTHSEC_GUARD_ALLOW_HTTP"),
        ({"ROLES_CLAIM": "[roles]"}, "AUTHSEC_GUARD_ROLES_CLAIM.*JSON list"),
        ({"ROLES_CLAIM": "a..b", "ISSUER": "https://a.example", "AUDIENCE": "a"}, "blank name"),
        ({"ISSUER": "https://a.example"}, "AUTHSEC_GUARD_AUDIENCE"),
        ({"ISSUER": "http://a.example", "AUDIENCE": "a"}, "http"),
        ({}, "AUTHSEC_GUARD_ISSUER and AUTHSEC_GUARD_AUDIENCE"),
        ({"AUDIENCE": "a"}, "AUTHSEC_GUARD_AUDIENCE.*goes with issuer"),
        ({"ISSUERS": "{}"}, "AUTHSEC_GUARD_ISSUERS is not a JSON list"),
        ({"ISSUERS": "[]"}, "AUTHSEC_GUARD_ISSUERS is not a JSON list"),
        ({"ISSUERS": '[{"issuer": "a", "issuer": "b"}]'}, "AUTHSEC_GUARD_ISSUERS is not a JSON list"),
        ({"ISSUERS": '[{"issuer": "https://a.example"}]'}, "number 1 needs audience"),
        (
            {"ISSUERS": '[{"issuer": "https://a.example", "audience": "a", "revocaton": "required"}]'},
            "'revocaton' is no term: did you mean revocation",
        ),
        ({"ISSUERS": '[{"issuer": "https://a.example", "audience": "a", "leeway": true}]'}, "leeway is not a number"),
        ({"ISSUERS": '[{"issuer": "https://a.example", "audience": []}]'}, "number 1 needs audience"),
        ({"ISSUERS": '[{"issuer": "https://a.example", "audience": [1]}]'}, "audience is no text"),
        (
            {"ISSUERS": '[{"issuer": "https://a.example", "audience": "a", "introspection": {"client_id": "b"}}]'},
            "introspection is an object",
        ),
        (
            {"ISSUERS": '[{"issuer": "https://a.example", "audience": "a"}]', "ISSUER": "https://a.example"},
            "both set",
        ),
        ({"ISSUERS": '[{"issuer": "https://a.example", "audience": "a"}]', "REVOCATION": "required"}, "goes with"),
        (
            {"ISSUER": "https://a.example", "AUDIENCE": "a", "REVOCATION": "introspection"},
            "AUTHSEC_GUARD_CLIENT_ID and AUTHSEC_GUARD_CLIENT_KEY",
        ),
        (
            {"ISSUER": "https://a.example", "AUDIENCE": "a", "INTROSPECTION_MAX_AGE": "5"},
            "AUTHSEC_GUARD_INTROSPECTION_MAX_AGE.*nobody would be asked",
        ),
        (
            {
                "ISSUER": "https://a.example",
                "AUDIENCE": "a",
                "REVOCATION": "introspection",
                "CLIENT_ID": "guard",
                "CLIENT_KEY": KEY,
                "INTROSPECTION_URL": "http://a.example/introspect",
            },
            "introspection url cannot be used.*http",
        ),
        ({"STATIC_TOKEN": "short"}, "16 or more"),
        ({"STATIC_SCOPES": "read"}, "AUTHSEC_GUARD_STATIC_SCOPES.*not set"),
        ({"STATIC_TOKEN": STATIC, "ISSUER": "https://a.example", "AUDIENCE": "a"}, "first try"),
    ],
    ids=str,
)
def test_a_mistake_keeps_the_guard_from_starting(setenv: Any, variables: dict[str, str], says: str) -> None:
    """The message names the variable and the mend, and shows no secret."""
    setenv(**variables)
    with pytest.raises(ConfigurationError, match=says) as caught:
        AuthSecGuard()
    assert "canary" not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_a_static_token_beside_an_issuer_is_refused_wherever_it_comes_from(setenv: Any) -> None:
    """Forgotten in the environment it would let in everybody who has ever seen it."""
    setenv(STATIC_TOKEN=STATIC)
    with pytest.raises(ConfigurationError, match="AUTHSEC_GUARD_STATIC_TOKEN"):
        AuthSecGuard(issuers=[Issuer().trusted()])
    with pytest.raises(ConfigurationError, match="AUTHSEC_GUARD_STATIC_TOKEN"):
        AuthSecGuard(issuer="https://a.example", audience="a")
    setenv(STATIC_SUBJECT="ann", STATIC_SCOPES="read:metrics, write", STATIC_ROLES="viewer")
    token = GuardSettings().token()
    assert token is not None
    caller = token.authenticate(STATIC)
    assert caller.subject == "ann"
    assert caller.scopes == {"read:metrics", "write"}
    assert caller.roles == {"viewer"}


def test_terms_that_no_issuer_would_get_are_refused() -> None:
    """`audience=` beside `issuers=`, and keys without an issuer, would be believed to hold."""
    given = [Issuer().trusted()]
    with pytest.raises(ConfigurationError, match="audience"):
        AuthSecGuard(issuers=given, audience="a")
    with pytest.raises(ConfigurationError, match="jwks"):
        AuthSecGuard(issuers=given, jwks={"keys": []})
    with pytest.raises(ConfigurationError, match="not both"):
        AuthSecGuard(issuers=given, issuer="https://a.example")
    with pytest.raises(ConfigurationError, match="audience"):
        AuthSecGuard(static_token=StaticToken(STATIC), audience="a")
    with pytest.raises(TypeError, match="isuer"):
        GuardSettings(isuer="x")  # type: ignore[call-arg]  # that it is refused is the point


def test_a_file_is_read_only_when_it_is_named(setenv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` in the working directory means nothing; a named one counts, and the environment wins over it."""
    (tmp_path / ".env").write_text("AUTHSEC_GUARD_ISSUER=https://file.example\nAUTHSEC_GUARD_AUDIENCE=file\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    assert GuardSettings().issuer is None
    setenv(AUDIENCE="environment")
    settings = GuardSettings(env_file=".env")
    assert (settings.issuer, settings.audience) == ("https://file.example", ("environment",))
    assert settings.set_by == {"issuer": "env file", "audience": "environment", "env_file": "argument"}
    (tmp_path / ".env").write_text("AUTHSEC_GUARD_ISUER=https://file.example\n")
    with pytest.raises(ConfigurationError, match="did you mean"):
        GuardSettings(env_file=".env")


def test_what_kubernetes_sets_is_no_setting(setenv: Any) -> None:
    """A Service that is called authsec-guard gives each pod variables of that name."""
    setenv(SERVICE_HOST="10.0.0.1", SERVICE_PORT="80", PORT="tcp://10.0.0.1:80")
    setenv(PORT_80_TCP_ADDR="10.0.0.1", PORT_80_TCP_PORT="80", PORT_80_TCP_PROTO="tcp")
    assert GuardSettings().issuer is None


def test_agents_and_guards_do_not_mistake_each_others_variables(
    setenv: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that is both reads its own half of `AUTHSEC_*`."""
    setenv(ISSUER="https://a.example", AUDIENCE="api", SCOPES_CLAIM="scp")
    monkeypatch.setenv("AUTHSEC_MODE", "mock")
    assert AuthSecConfig().resolved_mode == "mock"
    assert GuardSettings().issuer == "https://a.example"
    assert "not a setting" not in caplog.text


def test_the_policy_may_be_a_file_that_a_variable_names(setenv: Any, tmp_path: Path) -> None:
    """A file that cannot be read keeps the guard from starting; a policy that is an argument wins."""
    (tmp_path / "policy.yaml").write_text("version: 1\nroles: {viewer: [read]}\n")
    setenv(POLICY_FILE=str(tmp_path / "policy.yaml"))
    assert Issuer().guard().policy.actions == {"read"}
    assert Issuer().guard(policy=Policy(roles={"a": frozenset({"x"})})).policy.actions == {"x"}
    setenv(POLICY_FILE=str(tmp_path / "another.yaml"))
    with pytest.raises(ConfigurationError, match=r"another\.yaml"):
        Issuer().guard()


def test_settings_are_not_pickled(setenv: Any) -> None:
    """They may hold a key: another process reads its own environment."""
    setenv(STATIC_TOKEN=STATIC)
    settings = GuardSettings()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(settings)
    assert STATIC not in repr(settings) + str(settings) + settings.model_dump_json()
