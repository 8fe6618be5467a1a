"""The settings: where each comes from, which mode they mean, and what is refused before anything is sent."""

from __future__ import annotations

import ast
import copy
import errno
import inspect
import json
import logging
import os
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from authsec_core import AsyncAuthSecClient, AuthSecClient, AuthSecConfig, ConfigurationError, EndpointPolicy, _layers
from authsec_core._layers import named, variable
from authsec_core.testing import assert_no_secret

CLIENT_ID = "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f"
OTHER_ID = "00000000-0000-4000-8000-00000000000a"
BASE, OTHER = "https://authority.example.com", "https://other.example.com"
KEY = "agent-7f3a.canary-q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"
LIVE: dict[str, Any] = {"base_url": BASE, "client_id": CLIENT_ID}
LIVE_ENV = {"AUTHSEC_BASE_URL": BASE, "AUTHSEC_AGENT_CLIENT_ID": CLIENT_ID}

# Field -> two texts as in an environment, each with the value that it means.
TEXTS: dict[str, tuple[tuple[str, Any], tuple[str, Any]]] = {
    "base_url": ((BASE, BASE), (OTHER, OTHER)),
    "client_id": ((CLIENT_ID, CLIENT_ID), (OTHER_ID.upper(), OTHER_ID)),
    "mode": (("live", "live"), ("mock", "mock")),
    "api_base_url": (("https://api.example.com/v2", "https://api.example.com/v2"), (OTHER, OTHER)),
    "agent_key": ((KEY, SecretStr(KEY)), ("k2", SecretStr("k2"))),
    "workload_token_file": (("/run/token", Path("/run/token")), ("token", Path("token"))),
    "audience": (("api", "api"), ("other", "other")),
    "issuer": (("https://issuer", "https://issuer"), ("spiffe://x", "spiffe://x")),
    "timeout": (("2.5", 2.5), ("300", 300.0)),
    "connect_timeout": (("0.5", 0.5), ("7", 7.0)),
    "retries": (("0", 0), ("3", 3)),
    "refresh_margin": (("0", 0.0), ("90.5", 90.5)),
    "failure_cooldown": (("0", 0.0), ("60", 60.0)),
    "allowed_endpoints": (("a, b/c\nd", ("a", "b/c", "d")), ("x", ("x",))),
    "endpoint_scopes": (('{"a": "r w", "b": ["x"]}', {"a": ("r", "w"), "b": ("x",)}), ('{"c": "r"}', {"c": ("r",)})),
    "max_response_bytes": (("1024", 1024), ("16777216", 16777216)),
    "ca_file": ((__file__, Path(__file__)), (pytest.__file__, Path(pytest.__file__))),
    "allow_http": (("true", True), ("0", False)),
    "trust_env": (("1", True), ("no", False)),
    "vault_url": (("https://vault.example.com", "https://vault.example.com"), (OTHER, OTHER)),
    "mock_secrets": (('{"a/b": "x"}', SecretStr('{"a/b": "x"}')), ("{}", SecretStr("{}"))),
    "mock_permissions": (("a,b c", frozenset("abc")), ("read:x", frozenset({"read:x"}))),
}
# `env_file` itself is tested apart.
FIELDS = sorted(TEXTS)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets variables."""

    def set_all(variables: Mapping[str, str] | None = None, /, **named: str) -> None:
        for name, value in {**(variables or {}), **named}.items():
            monkeypatch.setenv(name, value)

    return set_all


def usable(field: str) -> dict[str, Any]:
    """Return arguments beside which any value of `field` makes valid settings."""
    beside = {"mode": "mock"} if field != "mode" else dict(LIVE)
    return {name: value for name, value in beside.items() if name != field}


def refused(**given: Any) -> str:
    """Return the message of the ConfigurationError that these arguments cause; nothing of pydantic's hangs on it."""
    with pytest.raises(ConfigurationError) as caught:
        AuthSecConfig(**given)
    error = caught.value
    assert error.code == "configuration"
    assert not error.retryable
    assert not isinstance(error.__context__, ValidationError)
    assert "pydantic" not in str(error)
    return str(error)


def test_the_tables_below_are_complete() -> None:
    """Each setting has its row here, so that a new one cannot go untested."""
    assert set(TEXTS) | {"env_file"} == set(AuthSecConfig.model_fields)


class TestWhereASettingComesFrom:
    """Argument over environment over a named `.env` file over the default."""

    @pytest.mark.parametrize("field", FIELDS)
    def test_each_layer_wins_over_the_next(self, field: str, env: Any, tmp_path: Path) -> None:
        """A setting is read from the file, then from the environment, then from the argument; `set_by` says which."""
        (first, meant), (second, other) = TEXTS[field]
        beside = usable(field)
        default = AuthSecConfig(**{**beside, "mode": "mock"})
        assert field not in default.set_by or field == "mode"
        file = tmp_path / "agent.env"
        file.write_text(f"{variable(field)}='{first}'\n", encoding="utf-8")

        from_file = AuthSecConfig(**beside, env_file=file)
        assert getattr(from_file, field) == meant
        assert from_file.set_by[field] == "env file"
        env({variable(field): second})
        from_env = AuthSecConfig(**beside, env_file=file)
        assert getattr(from_env, field) == other
        assert from_env.set_by[field] == "environment"
        argument = AuthSecConfig(**beside, env_file=file, **{field: meant})
        assert getattr(argument, field) == meant
        assert argument.set_by[field] == "argument"
        as_text: dict[str, Any] = {field: first}
        assert getattr(AuthSecConfig(**beside, env_file=file, **as_text), field) == meant

    @pytest.mark.parametrize("field", FIELDS)
    def test_none_means_not_given(self, field: str, env: Any) -> None:
        """An argument of None leaves the setting to the environment, so that optional arguments can be handed on."""
        text, meant = TEXTS[field][0]
        env({variable(field): text})
        config = AuthSecConfig(**usable(field), **{field: None})
        assert getattr(config, field) == meant
        assert config.set_by[field] == "environment"

    def test_the_seeds_names_are_read(self, env: Any) -> None:
        """The client id is `AUTHSEC_AGENT_CLIENT_ID`; the API's address may also be called `DOWNSTREAM_URL`."""
        env(LIVE_ENV, DOWNSTREAM_URL="https://api.example.com")
        config = AuthSecConfig()
        assert (config.client_id, config.api_base_url) == (CLIENT_ID, "https://api.example.com")
        assert config.set_by == dict.fromkeys(("base_url", "client_id", "api_base_url"), "environment")
        env(AUTHSEC_API_BASE_URL=OTHER)
        assert AuthSecConfig().api_base_url == OTHER

    def test_names_count_in_any_case(self, env: Any) -> None:
        """Variables are read in any case, as pydantic-settings does."""
        env({name.lower(): value for name, value in LIVE_ENV.items()})
        assert AuthSecConfig().resolved_mode == "live"

    @pytest.mark.parametrize("name", ["CLIENT_ID", "client_id", "AGENT_CLIENT_ID"])
    def test_no_other_name_is_read(self, name: str, env: Any, tmp_path: Path) -> None:
        """A field's own name is no variable, neither in the environment nor in a file, whatever pydantic does."""
        env({name: CLIENT_ID})
        assert "AUTHSEC_AGENT_CLIENT_ID must be set" in refused(base_url=BASE)
        (tmp_path / "x.env").write_text(f"{name}={CLIENT_ID}\nmode=mock\nbase_url={OTHER}\nagent_key={KEY}\nOTHER=1\n")
        assert "AUTHSEC_AGENT_CLIENT_ID must be set" in refused(base_url=BASE, env_file="x.env")

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("AUTHSEC_CLIENT_ID", "AUTHSEC_AGENT_CLIENT_ID"),
            ("AUTHSEC_URL", "AUTHSEC_BASE_URL"),
            ("AUTHSEC_API_URL", "AUTHSEC_API_BASE_URL"),
        ],
    )
    def test_what_people_type_instead_is_an_error(self, name: str, meant: str, env: Any) -> None:
        """A name that somebody would guess must not leave the agent in MOCK mode without a word."""
        env({name: "https://authority.example.com"})
        assert refused() == f"{name} is not a setting: did you mean {meant}?"

    @pytest.mark.req("RD1")
    @pytest.mark.parametrize("text", ["null", "[]", "1", "true", '"a"'])
    def test_a_scope_map_that_is_none_does_not_mean_no_limits(self, text: str, env: Any) -> None:
        """`null` is what a template makes of a value that is missing: it must not open every endpoint."""
        env(AUTHSEC_ENDPOINT_SCOPES=text)
        assert "AUTHSEC_ENDPOINT_SCOPES" in refused()

    @pytest.mark.req("RD3")
    @pytest.mark.parametrize("again", ["a/b", "/a/b", "a/b/", "a/%62", "\\u0061/b"])
    def test_an_endpoint_that_is_named_twice_is_refused(self, again: str, env: Any) -> None:
        """JSON takes the last of two entries, which need not be the one that was meant, so neither counts."""
        for first, second in (("a/b", again), (again, "a/b")):
            text = f'{{"{first}": "read", "x": "r", "{second}": "admin"}}'
            for message in (refused(mode="mock", endpoint_scopes=text), self._from_env(env, text)):
                assert message.startswith("AUTHSEC_ENDPOINT_SCOPES: ")
                assert "'a/b'" in message
                assert "more than once" in message

    @staticmethod
    def _from_env(env: Any, text: str) -> str:
        env(AUTHSEC_ENDPOINT_SCOPES=text)
        return refused(mode="mock")

    def test_the_mode_counts_in_any_case(self) -> None:
        """The documentation writes LIVE and MOCK; so may the settings."""
        assert AuthSecConfig(**{**LIVE, "mode": "LIVE"}).mode == "live"

    def test_type_checkers_are_told_of_every_setting(self) -> None:
        """The signature that only type checkers see has each field, and nothing else."""
        tree = ast.parse(Path(inspect.getfile(AuthSecConfig)).read_text(encoding="utf-8"))
        signatures = [
            [argument.arg for argument in node.args.kwonlyargs]
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name == "__init__" and node.args.kwonlyargs
        ]
        assert signatures == [list(AuthSecConfig.model_fields)]

    def test_foreign_lines_of_a_file_are_ignored(self, tmp_path: Path) -> None:
        """A file may hold the settings of other programs; nothing is made of them."""
        lines = [*(f"{name}={value}" for name, value in LIVE_ENV.items()), "OTHER=1", "AUTHSEC_SOMETHING_ELSE=2"]
        (tmp_path / "x.env").write_text("\n".join([*lines, "'authsec layers'=1", "export DEBUG=1", "# comment", ""]))
        config = AuthSecConfig(env_file="x.env")
        assert config.set_by == {"env_file": "argument", "base_url": "env file", "client_id": "env file"}

    def test_a_env_file_of_the_working_directory_is_not_read(self, tmp_path: Path) -> None:
        """What a model wrote into the working directory redirects nothing, unless the file was named."""
        text = f"AUTHSEC_BASE_URL={BASE}\nAUTHSEC_AGENT_CLIENT_ID={CLIENT_ID}\nAUTHSEC_AGENT_KEY={KEY}\n"
        for name in (".env", "authsec.env", ".env.local"):
            (tmp_path / name).write_text(text)
        config = AuthSecConfig()
        assert (config.resolved_mode, config.base_url, config.agent_key, config.set_by) == ("mock", None, None, {})

    @pytest.mark.parametrize("how", ["argument", "environment"])
    def test_a_named_env_file_is_read(self, how: str, env: Any, tmp_path: Path) -> None:
        """`AUTHSEC_ENV_FILE` or an argument names the file."""
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in LIVE_ENV.items()))
        if how == "environment":
            env(AUTHSEC_ENV_FILE=".env")
        config = AuthSecConfig(env_file=Path(".env") if how == "argument" else None)
        assert config.resolved_mode == "live"
        assert config.set_by == {"env_file": how, "base_url": "env file", "client_id": "env file"}

    def test_an_argument_names_another_file_than_the_environment(self, env: Any, tmp_path: Path) -> None:
        """Here, too, the argument wins, and the other file is not read."""
        (tmp_path / "one.env").write_text(f"AUTHSEC_ENV_FILE=three.env\nAUTHSEC_BASE_URL={BASE}\n")
        (tmp_path / "two.env").write_text(f"AUTHSEC_AGENT_CLIENT_ID={CLIENT_ID}\n")
        env(AUTHSEC_ENV_FILE="two.env")
        config = AuthSecConfig(env_file="one.env", client_id=OTHER_ID)
        assert (config.base_url, config.client_id, config.env_file) == (BASE, OTHER_ID, Path("one.env"))

    @pytest.mark.parametrize("content", [b"AUTHSEC_BASE_URL=\xff\xfe", b"\x80", "AUTHSEC_MODE=mock".encode("utf-16")])
    def test_an_env_file_that_is_not_utf_8_is_refused(self, content: bytes, tmp_path: Path) -> None:
        """The error names the variable and holds nothing of the file."""
        (tmp_path / "x.env").write_bytes(content + KEY.encode())
        with pytest.raises(ConfigurationError, match=r"^AUTHSEC_ENV_FILE: the file is not UTF-8: mend it") as caught:
            AuthSecConfig(env_file="x.env")
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("name", ["missing.env", ".", "~nobody-of-this-name/x", "x" * 5000, "a\0b", "x/y"])
    def test_an_env_file_that_cannot_be_read_is_refused(self, name: str, env: Any) -> None:
        """A named file that is not there is an error, else a typo would leave an agent with the defaults."""
        assert refused(env_file=name).startswith("AUTHSEC_ENV_FILE: ")
        if "\0" not in name:
            env(AUTHSEC_ENV_FILE=name)
            assert refused().startswith("AUTHSEC_ENV_FILE: ")


SIGNS = {
    "AUTHSEC_VAULT_URL": "https://vault.example.com",
    "AUTHSEC_AGENT_KEY": KEY,
    "AUTHSEC_WORKLOAD_TOKEN_FILE": "/run/token",
    "AUTHSEC_API_BASE_URL": "https://api.example.com",
    "DOWNSTREAM_URL": "https://api.example.com",
    "AUTHSEC_CA_FILE": __file__,
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "AUTHSEC_ISSUER": "https://authority.example.com/authsec",
}


class TestMode:
    """LIVE is decided at the start, by what is set, and never guessed."""

    @pytest.mark.req("RS1")
    @pytest.mark.parametrize(
        ("mode", "base_url", "client_id", "sign"),
        list(product([None, "auto", "live", "mock"], [False, True], [False, True], [None, *SIGNS])),
    )
    def test_every_combination(
        self, mode: str | None, base_url: bool, client_id: bool, sign: str | None, env: Any
    ) -> None:
        """Both set: LIVE. One of two, or neither beside a sign of a deployment: an error that names what is missing."""
        env({"AUTHSEC_MODE": mode} if mode else {})
        env({"AUTHSEC_BASE_URL": BASE} if base_url else {})
        env({"AUTHSEC_AGENT_CLIENT_ID": CLIENT_ID} if client_id else {})
        env({sign: SIGNS[sign]} if sign else {})
        if mode == "mock":
            assert AuthSecConfig().resolved_mode == "mock"
        elif base_url and client_id:
            assert AuthSecConfig().resolved_mode == "live"
        elif mode == "live" or base_url or client_id or sign:
            message = refused()
            assert ("AUTHSEC_BASE_URL" in message) is not base_url
            assert ("AUTHSEC_AGENT_CLIENT_ID" in message) is not client_id
            assert "AUTHSEC_MODE=mock" in message
            if sign and not base_url and not client_id and mode != "live":
                assert {"DOWNSTREAM_URL": "AUTHSEC_API_BASE_URL"}.get(sign, sign) in message
        else:
            assert AuthSecConfig().resolved_mode == "mock"

    @pytest.mark.req("RS1")
    @pytest.mark.parametrize(
        "name",
        sorted(set(TEXTS) - {"vault_url", "agent_key", "workload_token_file", "api_base_url", "ca_file", "issuer"}),
    )
    def test_other_settings_are_no_sign_of_live(self, name: str, env: Any) -> None:
        """A timeout or an audience alone does not make an offline try-out an error."""
        if name in {"mode", "base_url", "client_id"}:
            return
        env({variable(name): TEXTS[name][0][0]})
        assert AuthSecConfig().resolved_mode == "mock"

    @pytest.mark.req("RS1")
    def test_a_named_file_without_settings_is_a_sign_of_live(self, env: Any, tmp_path: Path) -> None:
        """An operator who names a file means its settings: where it has lost them, nothing is invented."""
        (tmp_path / "lost.env").write_text("")
        env(AUTHSEC_ENV_FILE=str(tmp_path / "lost.env"))
        assert "AUTHSEC_ENV_FILE says that this is no offline try-out" in refused()

    def test_the_mode_cannot_be_changed(self) -> None:
        """What was decided at the start stays."""
        config = AuthSecConfig(**LIVE)
        with pytest.raises(ValidationError):
            config.mode = "mock"  # type: ignore[misc]  # what the test is about
        with pytest.raises(ValidationError):
            config.resolved_mode = "mock"  # type: ignore[misc]  # what the test is about
        assert config.resolved_mode == "live"

    @pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
    def test_guessed_mock_mode_warns_once(self, kind: Any, caplog: pytest.LogCaptureFixture, env: Any) -> None:
        """A program that runs on samples because nothing is set says so; one that was told to need not."""
        with caplog.at_level(logging.DEBUG):
            assert kind().mode == "mock"
            assert [(record.levelname, record.name) for record in caplog.records] == [("WARNING", "authsec")]
            assert "AUTHSEC_BASE_URL" in caplog.text
            env(AUTHSEC_MODE="mock")
            assert kind().mode == "mock"
            assert kind(AuthSecConfig(**LIVE, mode="live")).mode == "live"
        assert len(caplog.records) == 1


class TestWhatIsRefused:
    """Each error names the variable, says what to mend, and repeats no value that could be a secret."""

    @pytest.mark.parametrize(
        ("field", "text", "says"),
        [
            ("base_url", "authority", "absolute URL such as"),
            ("base_url", "https://a b", "characters"),
            ("base_url", "https://user:pw@a", "user name or password"),
            ("base_url", "https://a?x=1", "query"),
            ("base_url", "http://authority.example.com", "use https"),
            ("base_url", "ftp://a", "absolute URL"),
            ("api_base_url", "http://10.0.0.1", "use https"),
            ("api_base_url", "api", "absolute URL"),
            ("api_base_url", "https://api.example.com/a/../b", "dot segments"),
            ("client_id", "my-agent", "is not a UUID: copy the Client ID"),
            ("client_id", CLIENT_ID + "0", "is not a UUID"),
            ("mode", "real", "'auto', 'live' or 'mock'"),
            ("agent_key", "two words", "copy the key again"),
            ("agent_key", "line\nend", "copy the key again"),
            ("agent_key", "k\u00e9y", "copy the key again"),
            ("audience", "a\r\nb", "control characters"),
            ("audience", "a\udcff", "not UTF-8"),
            ("issuer", "a\x1b[2J", "control characters"),
            ("timeout", "0", "greater than 0"),
            ("timeout", "-1", "greater than 0"),
            ("timeout", "301", "less than or equal to 300"),
            ("timeout", "nan", "finite"),
            ("timeout", "inf", "finite"),
            ("timeout", "soon", "number"),
            ("timeout", "10s", "number"),
            ("connect_timeout", "0", "greater than 0"),
            ("retries", "4", "less than or equal to 3"),
            ("retries", "-1", "greater than or equal to 0"),
            ("retries", "1.5", "integer"),
            ("refresh_margin", "-1", "greater than or equal to 0"),
            ("refresh_margin", "inf", "finite"),
            ("failure_cooldown", "61", "less than or equal to 60"),
            ("max_response_bytes", "1023", "greater than or equal to 1024"),
            ("max_response_bytes", "16777217", "less than or equal to"),
            ("ca_file", "/missing.pem", "does not exist"),
            ("ca_file", ".", "does not exist"),
            ("ca_file", "x" * 5000, "cannot be used"),
            ("allow_http", "maybe", "boolean"),
            ("trust_env", "2", "boolean"),
            ("allowed_endpoints", "../a", "not a relative path such as"),
            ("allowed_endpoints", "https://evil.test", "not a relative path"),
            ("allowed_endpoints", "a?x=1", "has a query"),
            ("endpoint_scopes", "{", "is not JSON such as"),
            ("endpoint_scopes", "[" * 100_000, "is not JSON such as"),
            ("endpoint_scopes", "read", "is not JSON such as"),
            ("endpoint_scopes", "[]", "JSON object"),
            ("endpoint_scopes", "5", "JSON object"),
            ("endpoint_scopes", '{"a": 5}', "must be text"),
            ("endpoint_scopes", '{"a": null}', "of 'a': the scopes must be text, or a list"),
            ("endpoint_scopes", '{"a": ""}', "blank"),
            ("endpoint_scopes", '{"a": []}', "blank"),
            ("endpoint_scopes", '{"a": [[]]}', "must be text"),
            ("endpoint_scopes", '{"a": "x\\"y"}', "not valid"),
            ("endpoint_scopes", '{"../a": "x"}', "not a relative path"),
            ("endpoint_scopes", '{"\\ud800": "x"}', "not a relative path"),
            ("endpoint_scopes", '{"a": {"r": 1}}', "of 'a': the scopes must be text, or a list"),
            ("mock_permissions", 'a"b', "not valid"),
            ("mock_permissions", "gar\u00e7on", "not valid"),
        ],
    )
    def test_a_wrong_value_names_its_variable(self, field: str, text: str, says: str, env: Any) -> None:
        """From the environment and as an argument alike."""
        name = variable(field)
        for message in (refused(**{**usable(field), field: text}), self._from_env(env, {name: text}, usable(field))):
            assert message.startswith(f"{named(field)}: ")
            assert says in message
            assert len(message) < 400

    @staticmethod
    def _from_env(env: Any, variables: dict[str, str], beside: dict[str, Any]) -> str:
        env(variables)
        return refused(**beside)

    @pytest.mark.parametrize("field", [*FIELDS, "env_file"])
    @pytest.mark.parametrize("blank", ["", " ", "\t \n"])
    def test_a_blank_value_is_an_error(self, field: str, blank: str, env: Any) -> None:
        """A variable that a template left empty is neither the default nor "nothing"."""
        env({variable(field): blank})
        assert refused(**usable(field)).startswith(f"{named(field)}: ")

    def test_a_blank_variable_does_not_hurt_where_an_argument_is_given(self, env: Any) -> None:
        """Only the value in force is judged."""
        env(AUTHSEC_AGENT_CLIENT_ID="", AUTHSEC_TIMEOUT="soon")
        assert AuthSecConfig(**LIVE, timeout=3).client_id == CLIENT_ID

    def test_every_mistake_is_told_at_once(self, env: Any) -> None:
        """One round of mending is enough for mistakes in single values."""
        env(AUTHSEC_TIMEOUT="soon", AUTHSEC_RETRIES="9", AUTHSEC_AGENT_CLIENT_ID="me")
        message = refused()
        for name in ("AUTHSEC_TIMEOUT: ", "AUTHSEC_RETRIES: ", "AUTHSEC_AGENT_CLIENT_ID: "):
            assert name in message

    @pytest.mark.parametrize(
        ("misspelt", "meant"),
        [
            ("AUTHSEC_ALOWED_ENDPOINTS", "AUTHSEC_ALLOWED_ENDPOINTS"),
            ("AUTHSEC_ALLOWED_ENDPOINT", "AUTHSEC_ALLOWED_ENDPOINTS"),
            ("AUTHSEC_ENDPOINT_SCOPE", "AUTHSEC_ENDPOINT_SCOPES"),
            ("AUTHSEC_MOD", "AUTHSEC_MODE"),
            ("AUTHSEC_BASEURL", "AUTHSEC_BASE_URL"),
            ("AUTHSEC_AGENT_CLIENTID", "AUTHSEC_AGENT_CLIENT_ID"),
            ("AUTHSEC_AGENT_KEYS", "AUTHSEC_AGENT_KEY"),
            ("authsec_trust_envs", "AUTHSEC_TRUST_ENV"),
        ],
    )
    def test_a_misspelt_variable_is_an_error(self, misspelt: str, meant: str, env: Any, tmp_path: Path) -> None:
        """A typo in a limit would silently mean no limit; it is refused in the environment and in a file."""
        (tmp_path / "x.env").write_text(f"{misspelt}=x\n")
        expected = f"{misspelt.upper()} is not a setting: did you mean {meant}?"
        assert refused(mode="mock", env_file="x.env") == expected
        env({misspelt: KEY})
        assert refused(mode="mock") == expected

    @pytest.mark.req("RD1", "RD3")
    @pytest.mark.parametrize(
        "name",
        [
            *("AUTHSEC_ALLOWED_PATHS", "AUTHSEC_ALLOW_LIST", "AUTHSEC_SCOPE_MAP", "AUTHSEC_TOOL_ENDPOINTS"),
            *("AUTHSEC_DENIED_PATHS", "AUTHSEC_READONLY", "AUTHSEC_POLICY_FILE", "authsec_scope_map"),
        ],
    )
    def test_a_limit_that_is_no_setting_is_an_error(self, name: str, env: Any, tmp_path: Path) -> None:
        """However far it is from a setting: whoever set it believes in a limit that nobody would keep."""
        (tmp_path / "x.env").write_text(f"{name}=x\n")
        expected = (
            f"{name.upper()} is not a setting, so that it would limit nothing: use AUTHSEC_ALLOWED_ENDPOINTS or "
            "AUTHSEC_ENDPOINT_SCOPES, or unset it"
        )
        assert refused(**LIVE, env_file="x.env") == expected
        env({name: KEY})
        assert refused(**LIVE) == expected

    @pytest.mark.parametrize(
        "name", ["AUTHSEC_X", "AUTHSEC_", "AUTHSEC_LOG_LEVEL", "AUTHSEC_SERVERS", "AUTHSEC_SHALLOW"]
    )
    def test_any_other_unknown_name_is_told_once(
        self, name: str, env: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may be a mistake or someone else's: the name is logged, without its value, and nothing is made of it."""
        monkeypatch.setattr(_layers, "_told", set())
        (tmp_path / "x.env").write_text(f"{name}={KEY}\n")
        env({name: KEY})
        for _ in range(2):
            assert AuthSecConfig(mode="mock", env_file="x.env").set_by.keys() == {"mode", "env_file"}
        assert [(record.levelname, record.name) for record in caplog.records] == [("WARNING", "authsec")]
        assert caplog.messages == [f"{name} is not a setting and is ignored"]

    @pytest.mark.parametrize(
        "name",
        [
            *("AUTHSEC_SERVER_PORT", "AUTHSEC_SERVER_SCOPES", "AUTHSEC_CONSOLE_URL", "AUTHSECRET", "MYAUTHSEC_MOD"),
            # What Kubernetes sets for services called authsec and authsec-policy.
            *("AUTHSEC_SERVICE_HOST", "AUTHSEC_SERVICE_PORT", "AUTHSEC_SERVICE_PORT_HTTPS", "AUTHSEC_PORT"),
            *("AUTHSEC_PORT_443_TCP", "AUTHSEC_PORT_443_TCP_ADDR", "AUTHSEC_POLICY_SERVICE_HOST"),
            "AUTHSEC_POLICY_PORT_8080_TCP_PROTO",
        ],
    )
    def test_a_variable_of_something_else_is_let_alone(
        self, name: str, env: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The server and the console have variables of their own, which an agent on the same machine may see."""
        env({name: "1"})
        assert AuthSecConfig(mode="mock").resolved_mode == "mock"
        assert not caplog.records

    @pytest.mark.parametrize("argument", ["base_ur1", "scope", "authsec layers", "verify", "AUTHSEC_MODE"])
    def test_an_unknown_argument_is_a_type_error(self, argument: str) -> None:
        """A misspelt argument is the programmer's mistake, and fails as it does for every function."""
        with pytest.raises(TypeError, match="has no setting"):
            refused(**{argument: "x"})

    def test_two_proofs_are_one_too_many(self) -> None:
        """An agent has a key or a workload token, not both."""
        message = refused(**LIVE, agent_key=KEY, workload_token_file="/run/token")
        assert "AUTHSEC_AGENT_KEY and AUTHSEC_WORKLOAD_TOKEN_FILE" in message

    def test_a_folder_that_may_not_be_searched_is_an_error_like_any_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A CA file below a locked folder is told as such, and not as an OSError."""

        def locked(path: Path, **_: object) -> bool:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "is_file", locked)
        assert refused(ca_file="ca.pem").startswith(
            "AUTHSEC_CA_FILE: names a file that cannot be used (Permission denied)"
        )

    def test_a_ca_file_is_read_at_start(self, tmp_path: Path) -> None:
        """A file that holds no certificates is found when the client is made."""
        (tmp_path / "ca.pem").write_text("not a certificate")
        for kind in (AuthSecClient, AsyncAuthSecClient):
            with pytest.raises(ConfigurationError, match="AUTHSEC_CA_FILE"):
                kind(AuthSecConfig(**LIVE, ca_file="ca.pem"))


class TestTransport:
    """RS3: credentials travel over TLS, or stay on this machine."""

    @pytest.mark.req("RS3")
    @pytest.mark.parametrize("field", ["base_url", "api_base_url"])
    @pytest.mark.parametrize(
        "url", ["http://authority.example.com", "http://10.0.0.1:8000", "http://localhost.evil.test"]
    )
    def test_http_beyond_loopback_is_refused(self, field: str, url: str, env: Any) -> None:
        """Both addresses get credentials; both are refused over plain http, unless the operator allows it."""
        given = {**LIVE, field: url}
        assert refused(**given).startswith(f"{named(field)}: it is http")
        assert getattr(AuthSecConfig(**given, allow_http=True), field) == url
        env(AUTHSEC_ALLOW_HTTP="true")
        assert getattr(AuthSecConfig(**given), field) == url

    @pytest.mark.req("RS3")
    @pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:8000/v2"])
    def test_http_on_loopback_is_fine(self, url: str) -> None:
        """Nobody listens between two programs of one machine."""
        assert AuthSecConfig(base_url=url, client_id=CLIENT_ID, api_base_url=url).resolved_mode == "live"

    @pytest.mark.req("RS3")
    def test_mock_mode_does_not_relax_it(self) -> None:
        """A setting that is unsafe in LIVE is refused in MOCK, so that it is found before it matters."""
        assert "use https" in refused(mode="mock", api_base_url="http://api.example.com")


class TestTheKeyIsBound:
    """RS9: a proof goes to the authority that it was configured with."""

    @pytest.mark.req("RS9")
    @pytest.mark.parametrize(
        ("proof", "text"), [("agent_key", KEY), ("workload_token_file", "/run/token")], ids=["key", "file"]
    )
    @pytest.mark.parametrize("beside", [BASE, "http://authority.example.com", BASE + ":8443", "nonsense", "https://["])
    def test_it_is_not_carried_to_another_origin(self, proof: str, text: str, beside: str, env: Any) -> None:
        """A key from the environment does not follow a `base_url` that an argument changed."""
        env({variable(proof): text, "AUTHSEC_BASE_URL": beside})
        message = refused(base_url=OTHER, client_id=CLIENT_ID)
        assert variable(proof) in message
        assert f"not for {OTHER}: pass {proof}= beside base_url=" in message
        assert text not in message
        together: dict[str, Any] = {"base_url": OTHER, "client_id": CLIENT_ID, proof: text}
        assert AuthSecConfig(**together).base_url == OTHER

    @pytest.mark.req("RS9")
    @pytest.mark.parametrize("base_url", [BASE, BASE + "/", BASE + ":443", BASE.upper(), BASE + "/authsec"])
    def test_the_same_origin_in_another_spelling_is_fine(self, base_url: str, env: Any) -> None:
        """The origin counts, not the text."""
        env(AUTHSEC_BASE_URL=BASE, AUTHSEC_AGENT_KEY=KEY)
        assert AuthSecConfig(base_url=base_url, client_id=CLIENT_ID).agent_key == SecretStr(KEY)

    @pytest.mark.req("RS9")
    def test_a_key_of_a_file_does_not_follow_the_environment(self, env: Any, tmp_path: Path) -> None:
        """The layers are held against each other, whichever they are."""
        (tmp_path / "x.env").write_text(f"AUTHSEC_BASE_URL={BASE}\nAUTHSEC_AGENT_KEY={KEY}\n")
        env(AUTHSEC_BASE_URL=OTHER, AUTHSEC_AGENT_CLIENT_ID=CLIENT_ID, AUTHSEC_ENV_FILE="x.env")
        assert f"was configured for {BASE}, not for {OTHER}" in refused()

    @pytest.mark.req("RS9")
    def test_a_key_alone_belongs_to_whatever_is_named(self, env: Any) -> None:
        """A key that was configured beside no authority can be used with the one that the program names."""
        env(AUTHSEC_AGENT_KEY=KEY)
        assert AuthSecConfig(**LIVE).agent_key == SecretStr(KEY)

    @pytest.mark.req("RS9")
    @pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
    def test_the_clients_refuse_it_as_well(self, kind: Any, env: Any) -> None:
        """`AuthSecClient(base_url=…)` takes the key from the environment, and so has to be as careful."""
        env(LIVE_ENV, AUTHSEC_AGENT_KEY=KEY)
        with pytest.raises(ConfigurationError, match="was configured for"):
            kind(base_url=OTHER)


class TestSecrecy:
    """RS8: a key that is configured is printed by nothing, least of all by the error about it."""

    @pytest.mark.req("RS8")
    def test_what_is_shown_of_the_settings_has_no_key(self) -> None:
        """Text, JSON, dumps, attributes and copies show a placeholder."""
        config = AuthSecConfig(**LIVE, agent_key=KEY)
        shown = [config, repr(config), str(config), config.model_dump(), config.model_dump(mode="json"), vars(config)]
        shown += [config.model_dump_json(), copy.copy(config), copy.deepcopy(config), list(config), config.set_by]
        shown += [
            config.__pydantic_private__,
            config.__pydantic_fields_set__,
            json.dumps(config.model_dump(mode="json")),
        ]
        assert_no_secret(shown, KEY)
        assert "**********" in config.model_dump_json()
        assert copy.deepcopy(config).agent_key == SecretStr(KEY)

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_settings_are_not_pickled(self, protocol: int) -> None:
        """With a key or without: the other process reads its own environment."""
        for config in (AuthSecConfig(**LIVE, agent_key=KEY), AuthSecConfig()):
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(config, protocol)

    @staticmethod
    def _mistakes(env: Any, tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ways to go wrong with the key about: in the environment (already set), as an argument, in a file."""
        (tmp_path / "x.env").write_text(f"AUTHSEC_AGENT_KEY={KEY}\nAUTHSEC_BASE_URL={OTHER}\n")
        (tmp_path / "y.env").write_bytes(f"AUTHSEC_AGENT_KEY={KEY}\n".encode() + b"\xff")
        (tmp_path / "z.env").write_text(f"AUTHSEC_AGENT_KEY={KEY}\nAUTHSEC_MODUS=x\nAUTHSEC_MODES=x\n")
        for beside in ({}, {"agent_key": KEY}, {"agent_key": SecretStr(KEY)}):
            yield "a wrong value", {**LIVE, **beside, "timeout": "soon"}
            yield "an unknown argument", {**LIVE, **beside, "nonsense": 1}
            yield "a missing id", {**beside, "base_url": BASE}
            yield "two proofs", {**LIVE, **beside, "workload_token_file": "/run/token"}
            yield "a bad file", {**LIVE, **beside, "env_file": "y.env"}
            yield "a misspelling in a file", {**LIVE, **beside, "env_file": "z.env"}
            yield "a bad base URL", {**LIVE, **beside, "base_url": "http://a"}
            yield "a bad endpoint", {**LIVE, **beside, "allowed_endpoints": ".."}
        yield "another origin", {"client_id": CLIENT_ID, "base_url": "https://third.example.com"}
        yield "a key of the wrong form", {**LIVE, "agent_key": f"{KEY} {KEY}"}
        yield "a key of the wrong type", {**LIVE, "agent_key": [KEY]}
        yield (
            "a key in another setting",
            {**LIVE, "audience": f"{KEY}\n", "client_id": KEY, "timeout": KEY, "mode": KEY},
        )
        yield "a key in a URL", {**LIVE, "base_url": f"https://agent:{KEY}@authority.example.com"}
        yield "a key in a number", {**LIVE, "retries": KEY, "max_response_bytes": KEY, "allow_http": KEY}

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize("misspelt", [False, True])
    def test_no_error_shows_a_key(self, misspelt: bool, env: Any, tmp_path: Path) -> None:
        """Nor does what hangs on it, the tracebacks included."""
        env(
            AUTHSEC_AGENT_KEY=KEY,
            AUTHSEC_BASE_URL=OTHER,
            **({"AUTHSEC_MODUS": "x", "AUTHSEC_MODES": "x"} if misspelt else {}),
        )
        for what, mistake in self._mistakes(env, tmp_path):
            with pytest.raises((ConfigurationError, TypeError)) as caught:
                AuthSecConfig(**mistake)
            assert_no_secret([what, caught.value, *traceback.format_exception(caught.value)], KEY)

    @pytest.mark.req("RS8")
    def test_no_frame_of_an_error_holds_a_key_in_the_clear(self, env: Any, tmp_path: Path) -> None:
        """Reports of errors show the locals of each frame: those of ours, and of pydantic's below us, hold no key."""
        env(AUTHSEC_AGENT_KEY=KEY, AUTHSEC_BASE_URL=OTHER)
        for what, mistake in self._mistakes(env, tmp_path):
            if what.startswith("a key"):  # the mistake is that we were not told that it is one
                continue
            for make in (
                AuthSecConfig,
                *(kind for kind in (AuthSecClient, AsyncAuthSecClient) if set(mistake) <= CLIENT_ARGS),
            ):
                with pytest.raises((ConfigurationError, TypeError)) as caught:
                    make(**mistake)
                stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
                frames = [frame for frame in stack if frame.filename != __file__]
                assert frames
                assert_no_secret([(what, frame.name, frame.locals) for frame in frames], KEY)

    @staticmethod
    def _makers() -> dict[str, Callable[[dict[str, Any]], Any]]:
        class App(BaseModel):
            config: AuthSecConfig

        class Outer(BaseModel):
            apps: list[App]

        return {
            "call": lambda given: AuthSecConfig(**given),
            "model_validate": AuthSecConfig.model_validate,
            "adapter": TypeAdapter(AuthSecConfig).validate_python,
            "nested": lambda given: App(config=given),
            "nested twice": lambda given: Outer.model_validate({"apps": [{"config": given}]}),
        }

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize("how", ["call", "model_validate", "adapter", "nested", "nested twice"])
    @pytest.mark.parametrize(
        "name", ["agent_key", "AUTHSEC_AGENT_KEY", "authsec_agent_key", "api_key", "agent_secret", "token"]
    )
    @pytest.mark.parametrize("kind", [str, str.encode, lambda text: bytearray(text.encode())])
    def test_no_frame_holds_a_key_however_it_was_given(self, how: str, name: str, kind: Any) -> None:
        """In a dict for pydantic, by the variable's name, or as bytes: no frame of the error shows it, ours or not."""
        for wrong in ({"base_url": "http://a.example"}, {"client_id": 5}, {"timeout": "soon"}, {"nonsense": 1}):
            given = {**LIVE, name: kind(KEY), **wrong}
            with pytest.raises((ConfigurationError, TypeError)) as caught:
                self._makers()[how](given)
            frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
            ours = [frame for frame in frames if frame.filename != __file__]
            assert ours
            assert_no_secret([caught.value, *((frame.name, frame.locals) for frame in ours)], KEY)

    @pytest.mark.parametrize("how", ["model_validate", "adapter", "nested", "nested twice"])
    def test_settings_that_are_made_of_a_dict_leave_it_alone(self, how: str) -> None:
        """Only where they are refused is the key in it wrapped; and they know as well where each came from."""
        given = {**LIVE, "agent_key": KEY}
        made = self._makers()[how](given)
        assert given == {**LIVE, "agent_key": KEY}
        made = made.apps[0] if how == "nested twice" else made
        config = made if isinstance(made, AuthSecConfig) else made.config
        assert config.set_by == dict.fromkeys(given, "argument")
        assert (config.resolved_mode, config.agent_key) == ("live", SecretStr(KEY))

    @pytest.mark.parametrize("kind", [bytes, bytearray])
    def test_a_key_of_bytes_is_read_as_text(self, kind: Any) -> None:
        """As `read_bytes` of a file gives it; what is no text is refused like every other wrong key."""
        assert AuthSecConfig(**LIVE, agent_key=kind(KEY.encode())).agent_key == SecretStr(KEY)
        assert "copy the key again" in refused(**LIVE, agent_key=kind(b"key\xff"))


CLIENT_ARGS = {"base_url", "client_id", "agent_key", "api_base_url"}


class TestUse:
    """How the rest of the package, and a program, use the settings."""

    def test_the_policy_is_made_of_the_settings(self) -> None:
        """The allow-list and the scope map become the policy for whichever API."""
        config = AuthSecConfig(mode="mock", allowed_endpoints=["a", "b"], endpoint_scopes={"a": "read"})
        policy = config.policy("https://api.example.com/v2")
        assert isinstance(policy, EndpointPolicy)
        assert policy.grant("a", "read write").scopes == frozenset({"read"})
        assert policy.grant("b").url == "https://api.example.com/v2/b"

    def test_an_empty_allow_list_permits_nothing(self) -> None:
        """An empty list as an argument is meant; a blank variable is not, and was refused above."""
        config = AuthSecConfig(mode="mock", allowed_endpoints=[])
        assert config.policy("https://api.example.com").describe() == "No endpoint is permitted."
        assert AuthSecConfig(mode="mock", endpoint_scopes="{}").endpoint_scopes == {}

    def test_settings_can_be_part_of_another_model(self) -> None:
        """A model that holds settings takes them as they are; checking them again changes nothing."""

        class Holder(BaseModel):
            config: AuthSecConfig

        config = AuthSecConfig(**LIVE, agent_key=KEY)
        before = config.set_by
        held = Holder(config=config).config
        assert held is config
        assert (held.set_by, held.resolved_mode) == (before, "live")
        assert AuthSecConfig.model_validate(config) is config
        assert config.set_by == before
        assert_no_secret(Holder(config=config), KEY)

    def test_settings_are_frozen(self) -> None:
        """They are shared between threads, so that nobody may change them; `set_by` is a copy."""
        config = AuthSecConfig(**LIVE)
        with pytest.raises(ValidationError, match="frozen"):
            config.timeout = 1.0  # type: ignore[misc]  # what the test is about
        config.set_by.clear()  # type: ignore[attr-defined]  # what the test is about
        assert config.set_by == {"base_url": "argument", "client_id": "argument"}

    def test_the_client_id_is_kept_in_its_usual_spelling(self) -> None:
        """Braces, upper case and missing dashes are read; the authority gets what it printed."""
        for text in (CLIENT_ID.upper(), f"{{{CLIENT_ID}}}", CLIENT_ID.replace("-", ""), f"urn:uuid:{CLIENT_ID}"):
            assert AuthSecConfig(base_url=BASE, client_id=text).client_id == CLIENT_ID

    @pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
    def test_blank_mock_permissions_are_a_configuration_error(self, kind: Any, env: Any) -> None:
        """An error of the settings is a ConfigurationError wherever it shows, and never a bare ValueError."""
        env(AUTHSEC_MOCK_PERMISSIONS="")
        with pytest.raises(ConfigurationError, match="AUTHSEC_MOCK_PERMISSIONS"):
            kind()
        with pytest.raises(ConfigurationError, match="AUTHSEC_MOCK_PERMISSIONS"):
            AuthSecConfig(mode="mock", mock_permissions=())


words = (
    st.sampled_from([text for rows in TEXTS.values() for text, _ in rows])
    | st.sampled_from(
        ["", " ", "0", "-1", "1e999", "nan", "null", "{}", "[]", '{"a": {}}', "~", "~x/y", "/", ".", "\udcff"]
    )
    | st.sampled_from(["http://", "https://[", "https://a:x", "//", "a@b", "..", "%", "\u202e", "true", "x" * 5000])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
)
names = st.sampled_from([variable(field) for field in AuthSecConfig.model_fields] + ["DOWNSTREAM_URL", "AUTHSEC_MOD"])


anyone = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


def settings_or_error(**named: Any) -> AuthSecConfig | None:
    """Return the settings, or None where they are refused as they should be."""
    try:
        return AuthSecConfig(**named)
    except ConfigurationError:
        return None


@anyone
@given(st.dictionaries(names, words, max_size=6))
@example({"AUTHSEC_ENDPOINT_SCOPES": "[" * 50_000})
@example({"AUTHSEC_CA_FILE": "x" * 5000})
@example({"AUTHSEC_AGENT_KEY": "k", "AUTHSEC_BASE_URL": "nonsense"})
def test_every_environment_makes_settings_or_a_configuration_error(environment: dict[str, str]) -> None:
    """Nothing else comes out, whatever was set; and LIVE only where both of its settings are."""
    with mock.patch.dict(os.environ, environment):
        config = settings_or_error()
    if config is None:
        return
    assert config.resolved_mode in {"live", "mock"}
    if config.resolved_mode == "live":
        assert config.base_url
        assert config.client_id
    if config.ca_file is None:  # or it would have to be one
        AuthSecClient(config).close()


lines = st.lists(st.tuples(names, words).map("=".join), max_size=4).map("\n".join)


@anyone
@given(st.binary(max_size=60) | lines.map(lambda text: text.encode("utf-8", "replace")))
def test_every_env_file_makes_settings_or_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    """A file is no safer than the environment."""
    file = tmp_path / "x.env"
    file.write_bytes(content)
    settings_or_error(env_file=file)
