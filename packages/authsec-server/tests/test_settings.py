"""The server's settings: where they come from, what follows from them, and what is too unsafe to start with."""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from authsec_core.errors import ConfigurationError
from authsec_core.testing import assert_no_secret
from authsec_server.errors import UnsafeSettingsError
from authsec_server.settings import ServerSettings

PUBLIC = "https://authority.example.com"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is refused without TLS
KEY = "canary-master-q2w3e4r5t6y7u8i9o0p1a2s3d4f"
DATABASE = "postgresql://authsec:canary-database-z9x8c7v6b5@db.example.com/authsec?sslmode=verify-full"
SAFE: dict[str, Any] = {"public_url": PUBLIC, "data_dir": "/srv/authsec"}


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)


def settings(**given: Any) -> ServerSettings:
    """Settings that are safe but for what is given."""
    return ServerSettings(**{**SAFE, **given})


def refusal(**given: Any) -> str:
    """The message with which these settings are refused as unsafe."""
    with pytest.raises(UnsafeSettingsError) as caught:
        settings(**given)
    return caught.value.message


def test_a_try_out_needs_nothing(tmp_path: Path) -> None:
    """With `dev` alone everything has a value, in a local folder and on loopback."""
    dev = ServerSettings(dev=True)
    assert dev.data_dir == tmp_path / "authsec-data"
    assert dev.database_url.get_secret_value() == f"sqlite:///{tmp_path}/authsec-data/authsec.db"
    assert dev.master_key_file == tmp_path / "authsec-data/master.key"
    assert dev.checkpoint_file == tmp_path / "authsec-data/checkpoints.jsonl"
    assert (dev.public_url, dev.trust_domain, dev.log_format) == ("http://127.0.0.1:8321", "authsec.local", "text")
    assert dev.uses_sqlite
    assert not list(tmp_path.iterdir()), "settings made a file"


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]:9000"), ("localhost", "http://localhost:9000")], ids=["v6", "name"]
)
def test_a_try_out_is_reached_where_it_listens(host: str, url: str) -> None:
    """The public URL of a try-out follows host and port."""
    assert ServerSettings(dev=True, host=host, port=9000).public_url == url


def test_production_derives_its_addresses() -> None:
    """Issuer, JWKS, status lists, trust domain and host names all follow from the public URL."""
    one = settings(public_url="https://Authority.Example.com:443/")
    assert one.public_url == PUBLIC
    assert one.issuer == f"{PUBLIC}/authsec"
    assert one.jwks_url == f"{PUBLIC}/authsec/.well-known/jwks.json"
    assert one.status_list_base == f"{PUBLIC}/authsec/statuslists"
    assert one.trust_domain == "authority.example.com"
    assert one.log_format == "json"
    assert one.allowed_hosts == {"authority.example.com", "localhost", "127.0.0.1", "::1"}


@pytest.mark.req("RO1")
def test_a_try_out_answers_to_loopback_names_only() -> None:
    """No other Host is allowed with `dev`, so that a rebound DNS name does not reach it."""
    loopback = {"localhost", "127.0.0.1", "::1"}
    assert ServerSettings(dev=True).allowed_hosts == loopback
    assert ServerSettings(dev=True, host="127.0.0.2").allowed_hosts == loopback | {"127.0.0.2"}


def test_what_is_given_wins_over_what_follows() -> None:
    """A derived value is only a default."""
    one = settings(
        trust_domain="corp.example",
        master_key_file="/run/secrets/master",
        checkpoint_file="/mnt/audit/checkpoints",
        database_url=DATABASE,
        log_format="text",
    )
    assert one.trust_domain == "corp.example"
    assert one.master_key_file == Path("/run/secrets/master")
    assert one.checkpoint_file == Path("/mnt/audit/checkpoints")
    assert one.log_format == "text"
    assert not one.uses_sqlite


def test_postgresql_needs_no_folder() -> None:
    """With a database elsewhere and a key in the environment, nothing is kept on this disk."""
    one = ServerSettings(public_url=PUBLIC, database_url=DATABASE, master_key=KEY)
    assert (one.data_dir, one.master_key_file, one.checkpoint_file) == (None, None, None)


@pytest.mark.req("RO1")
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"dev": True, "public_url": None, "host": EVERYWHERE}, "HOST"),
        ({"dev": True, "public_url": None, "host": "::"}, "HOST"),
        ({"dev": True, "public_url": None, "host": "192.168.1.4"}, "HOST"),
        ({"dev": True}, "PUBLIC_URL"),
        ({"dev": True, "public_url": None, "behind_proxy": True}, "BEHIND_PROXY"),
        ({"dev": True, "public_url": None, "trusted_proxies": "10.0.0.1"}, "TRUSTED_PROXIES"),
        ({"public_url": None}, "PUBLIC_URL"),
        ({"public_url": "http://authority.example.com"}, "PUBLIC_URL"),
        ({"host": EVERYWHERE}, "TLS_CERT_FILE"),
        ({"host": "authority.example.com"}, "BEHIND_PROXY"),
        ({"data_dir": None, "database_url": DATABASE}, "MASTER_KEY"),
        ({"trusted_proxies": "0.0.0.0/0"}, "TRUSTED_PROXIES"),
        ({"trusted_proxies": "10.0.0.1, ::/0"}, "TRUSTED_PROXIES"),
    ],
    ids=str,
)
def test_unsafe_settings_are_refused(given: dict[str, Any], names: str) -> None:
    """Whatever would let someone in is refused at start, with the variable to mend."""
    assert f"AUTHSEC_SERVER_{names}" in refusal(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"public_url": "http://127.0.0.1:8321"},
        {"host": EVERYWHERE, "behind_proxy": True, "trusted_proxies": "10.0.0.0/8 fd00::1"},
        {"host": EVERYWHERE, "tls_cert_file": "/tls/cert.pem", "tls_key_file": "/tls/key.pem"},
        {"host": "::1"},
    ],
    ids=str,
)
def test_safe_settings_are_taken(given: dict[str, Any]) -> None:
    """Loopback, TLS of its own and TLS at a proxy are all fine."""
    settings(**given)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"data_dir": None, "master_key": KEY}, "DATA_DIR"),
        ({"public_url": "https://[2001:db8::1]"}, "TRUST_DOMAIN"),
        ({"master_key": KEY, "master_key_file": "/run/key"}, "MASTER_KEY_FILE"),
        ({"tls_cert_file": "/tls/cert.pem"}, "TLS_KEY_FILE"),
        ({"tls_key_file": "/tls/key.pem"}, "TLS_CERT_FILE"),
        ({"tls_cert_file": "/c", "tls_key_file": "/k", "public_url": "http://localhost:1"}, "PUBLIC_URL"),
        ({"token_ttl": 3601}, "TOKEN_TTL"),
        ({"critical_delay": 900, "approval_lifetime": 900}, "CRITICAL_DELAY"),
        ({"signing_key_lifetime": 3900}, "SIGNING_KEY_LIFETIME"),
        ({"database_timeout": 10}, "DATABASE_TIMEOUT"),
        ({"public_url": "https://example.com/base"}, "PUBLIC_URL"),
        ({"public_url": "https://example.com?x=1"}, "PUBLIC_URL"),
        ({"public_url": "https://user@example.com"}, "PUBLIC_URL"),
        ({"public_url": "authority.example.com"}, "PUBLIC_URL"),
        ({"database_url": "sqlite://"}, "DATABASE_URL"),
        ({"database_url": "sqlite:///:memory:"}, "DATABASE_URL"),
        ({"database_url": "postgresql+asyncpg://db/x"}, "DATABASE_URL"),
        ({"database_url": "mysql://db/x"}, "DATABASE_URL"),
        ({"tenant_id": "a/b"}, "TENANT_ID"),
        ({"trust_domain": "Example.com"}, "TRUST_DOMAIN"),
        ({"default_audience": "two words"}, "DEFAULT_AUDIENCE"),
        ({"trusted_proxies": "proxy.example.com"}, "TRUSTED_PROXIES"),
        ({"trusted_proxies": "10.1.2.3/8"}, "TRUSTED_PROXIES"),
        ({"trusted_proxies": 7}, "TRUSTED_PROXIES"),
        ({"log_level": "LOUD"}, "LOG_LEVEL"),
        ({"log_format": "xml"}, "LOG_FORMAT"),
        ({"host": " "}, "HOST"),
        ({"tenant_id": "a\x1b"}, "TENANT_ID"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], names: str) -> None:
    """A contradiction or a malformed value is an error that names the variable."""
    with pytest.raises(ConfigurationError, match=f"AUTHSEC_SERVER_{names}"):
        settings(**given)


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("port", 0, 65536),
        ("token_ttl", 0, 86401),
        ("max_token_ttl", 0, 86401),
        ("max_vault_token_ttl", 0, 30 * 86400 + 1),
        ("approval_lifetime", 59, 30 * 86400 + 1),
        ("critical_delay", -1, 86401),
        ("jwks_max_age", 0, 86401),
        ("signing_key_bits", 1024, 8192),
        ("signing_key_lifetime", 59, 400 * 86400 + 1),
        ("status_list_ttl", 0, 301),
        ("checkpoint_interval", 0.5, 86401),
        ("body_limit", 1023, 16 * 1024 * 1024 + 1),
        ("request_timeout", 0, 301),
        ("database_timeout", 0, 61),
        ("pool_size", 0, 201),
    ],
)
def test_numbers_have_bounds(field: str, low: float, high: float) -> None:
    """A number that makes no sense is refused, and so is what is no number."""
    for value in (low, high, "many", float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match=f"AUTHSEC_SERVER_{field.upper()}"):
            settings(**{field: value})


def test_signing_keys_are_of_a_usual_size() -> None:
    """A key size between the usual ones is refused."""
    with pytest.raises(ConfigurationError, match="AUTHSEC_SERVER_SIGNING_KEY_BITS"):
        settings(signing_key_bits=2049)


def test_layers_win_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Arguments win over the environment, which wins over the file that was named."""
    file = tmp_path / "server.env"
    file.write_text("AUTHSEC_SERVER_PORT=1001\nAUTHSEC_SERVER_TENANT_ID=file\nAUTHSEC_SERVER_POOL_SIZE=3\nOTHER=1\n")
    monkeypatch.setenv("AUTHSEC_SERVER_ENV_FILE", str(file))
    monkeypatch.setenv("AUTHSEC_SERVER_PORT", "1002")
    monkeypatch.setenv("authsec_server_tenant_id", "environment")
    one = settings(port=1003)
    assert (one.port, one.tenant_id, one.pool_size) == (1003, "environment", 3)


def test_a_file_that_is_not_named_is_not_read(tmp_path: Path) -> None:
    """A `.env` that lies in the working directory counts for nothing."""
    (tmp_path / ".env").write_text("AUTHSEC_SERVER_TENANT_ID=planted\n")
    assert settings().tenant_id == "default"


@pytest.mark.parametrize("content", [None, b"\xff\xfe=canary"], ids=["missing", "not-text"])
def test_a_named_file_must_be_readable(tmp_path: Path, content: bytes | None) -> None:
    """A file that was named and cannot be read is an error, which does not quote it."""
    file = tmp_path / "server.env"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="AUTHSEC_SERVER_ENV_FILE") as caught:
        settings(env_file=file)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.req("RO1")
@pytest.mark.parametrize("source", ["environment", "file"])
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    """A misspelt limit would limit nothing: the message says which one was meant."""
    if source == "environment":
        monkeypatch.setenv("AUTHSEC_SERVER_MAX_TOKEN_TLL", "60")
    else:
        (tmp_path / "server.env").write_text("AUTHSEC_SERVER_MAX_TOKEN_TLL=60\n")
        monkeypatch.setenv("AUTHSEC_SERVER_ENV_FILE", "server.env")
    with pytest.raises(ConfigurationError, match="did you mean AUTHSEC_SERVER_MAX_TOKEN_TTL"):
        settings()


def test_an_unknown_variable_without_likeness_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is like none of ours is still an error."""
    monkeypatch.setenv("AUTHSEC_SERVER_XYZ", "1")
    with pytest.raises(ConfigurationError, match="AUTHSEC_SERVER_XYZ is not a setting"):
        settings()


def test_what_kubernetes_sets_for_a_service_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called authsec-server sets names like ours, one of which is AUTHSEC_SERVER_PORT itself."""
    for name, value in {
        "PORT": "tcp://10.0.0.7:8321",
        "SERVICE_HOST": "10.0.0.7",
        "SERVICE_PORT": "8321",
        "SERVICE_PORT_HTTP": "8321",
        "PORT_8321_TCP_ADDR": "10.0.0.7",
        "PORT_8321_TCP_PORT": "8321",
        "POSTGRES_PORT": "tcp://10.0.0.8:5432",
        "POSTGRES_SERVICE_PORT": "5432",
    }.items():
        monkeypatch.setenv(f"AUTHSEC_SERVER_{name}", value)
    assert settings().port == 8321


def test_a_port_that_is_not_kubernetes_own_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the values that Kubernetes sets are passed over: another name that ends in PORT is a mistake."""
    monkeypatch.setenv("AUTHSEC_SERVER_HTTP_PORT", "8000")
    with pytest.raises(ConfigurationError, match="AUTHSEC_SERVER_HTTP_PORT"):
        settings()


def test_an_unknown_argument_is_a_type_error() -> None:
    """What no environment did, a programmer mends."""
    with pytest.raises(TypeError, match="prot"):
        settings(prot=1)


def test_a_blank_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that lost its value is not a default."""
    monkeypatch.setenv("AUTHSEC_SERVER_TRUSTED_PROXIES", "")
    with pytest.raises(ConfigurationError, match="AUTHSEC_SERVER_TRUSTED_PROXIES is set but blank"):
        settings()


def test_none_is_not_given() -> None:
    """Optional arguments can be passed through."""
    assert settings(port=None, dev=None).port == 8321


def test_networks_and_addresses_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusted proxies are addresses or networks, with commas or spaces between them, or a list."""
    monkeypatch.setenv("AUTHSEC_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, fd00::1")
    assert [str(network) for network in settings().trusted_proxies] == ["10.0.0.0/8", "fd00::1/128"]
    assert [str(network) for network in settings(trusted_proxies=["192.0.2.1"]).trusted_proxies] == ["192.0.2.1/32"]


def test_levels_are_read_in_any_case() -> None:
    """`debug` is DEBUG."""
    assert settings(log_level="debug").log_level == "DEBUG"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The master key and the database's password are in no text, dump or pickle of the settings."""
    monkeypatch.setenv("AUTHSEC_SERVER_DATABASE_URL", DATABASE)
    one = settings(master_key=KEY)
    assert one.master_key == SecretStr(KEY)
    assert_no_secret([repr(one), str(one), one.model_dump_json(), one], KEY, "canary-database-z9x8c7v6b5")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(one)


@pytest.mark.parametrize(
    "bad",
    [
        {"DATABASE_URL": DATABASE.replace("postgresql", "mysql")},
        {"PORT": "-1"},
        {"POOL_SIZE": ""},
        {"UNKNOWN": "1"},
        {"ENV_FILE": "unknown.env"},
        {"HOST": "::"},
    ],
    ids=str,
)
def test_secrets_are_not_shown_by_errors(bad: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was refused is not quoted, nor is what else was given: not in the chain, not in the frames."""
    (tmp_path / "unknown.env").write_text(f"AUTHSEC_SERVER_MASTER_KEY={KEY}\nAUTHSEC_SERVER_UNKNOWN=1\n")
    for name, value in {"DATABASE_URL": DATABASE, **bad}.items():
        monkeypatch.setenv(f"AUTHSEC_SERVER_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        settings(master_key=KEY)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame.locals for frame in shown.stack if frame.filename != __file__]  # a caller holds its own secrets
    assert frames
    assert_no_secret([caught.value, caught.value.__context__, frames], KEY, "canary-database-z9x8c7v6b5")


@pytest.mark.parametrize("name", ["master_key", "database_url"])
def test_a_blank_secret_is_refused(name: str) -> None:
    """A secret that lost its value is an error, also where it is wrapped already."""
    for blank in ("", " ", SecretStr("")):
        with pytest.raises(ConfigurationError, match=f"AUTHSEC_SERVER_{name.upper()}: is blank"):
            settings(**{name: blank})


def test_settings_are_frozen() -> None:
    """Nobody changes them after they were checked."""
    with pytest.raises(ValueError, match="frozen"):
        settings().dev = True  # type: ignore[misc]  # what must not work


def test_every_setting_is_described() -> None:
    """Each field has its variable, a default as text and a meaning; durations name their unit."""
    described = {setting.name: setting for setting in ServerSettings.describe()}
    assert described.keys() == ServerSettings.model_fields.keys()
    for name, setting in described.items():
        assert setting.variable == f"AUTHSEC_SERVER_{name.upper()}"
        assert setting.default
        assert setting.meaning
        if name.endswith(("_ttl", "_timeout", "_age", "_interval", "_lifetime")):
            assert setting.meaning.startswith("Seconds ")
    assert described["checkpoint_interval"].default == "60"
    assert described["dev"].default == "false"


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    """A certificate and its key, as files that only their owner reads."""
    paths = {"tls_cert_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "key.pem"}
    for path in paths.values():
        path.touch(mode=0o600)
    return paths


def test_tls_files_are_found(tls: dict[str, Path]) -> None:
    """Files that are there and private are taken; without TLS there is nothing to find."""
    settings(**tls).check_files()
    settings().check_files()


@pytest.mark.req("RO1")
@pytest.mark.skipif(os.name == "nt", reason="modes are a matter of POSIX")
def test_a_key_that_everyone_can_read_is_refused(tls: dict[str, Path]) -> None:
    """A world-readable private key is refused; a certificate is public."""
    tls["tls_cert_file"].chmod(0o644)
    tls["tls_key_file"].chmod(0o640)
    settings(**tls).check_files()
    tls["tls_key_file"].chmod(0o644)
    with pytest.raises(UnsafeSettingsError, match=r"AUTHSEC_SERVER_TLS_KEY_FILE.*chmod 600"):
        settings(**tls).check_files()


@pytest.mark.req("RO1")
@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_tls_file_that_is_none_is_refused(tls: dict[str, Path], kind: str) -> None:
    """A path that leads to no file is refused before anything listens."""
    tls["tls_key_file"].unlink()
    if kind == "folder":
        tls["tls_key_file"].mkdir()
    with pytest.raises(UnsafeSettingsError, match="AUTHSEC_SERVER_TLS_KEY_FILE"):
        settings(**tls).check_files()


@pytest.mark.req("RO1")
def test_a_file_of_authorities_for_issuers_has_to_be_there(tmp_path: Path) -> None:
    """Everybody may read it; without it no issuer's keys could be fetched, which is found before anything listens."""
    path = tmp_path / "ca.pem"
    with pytest.raises(UnsafeSettingsError, match="AUTHSEC_SERVER_ISSUER_CA_FILE"):
        settings(issuer_ca_file=path).check_files()
    path.touch(mode=0o644)
    settings(issuer_ca_file=path).check_files()
