"""What the settings of a service are read from, whichever service it is; server and guard have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from authsec_core._service_settings import LAYERS, Naming, ServiceLayers, is_blank
from authsec_core.errors import ConfigurationError

NAMING = Naming(prefix="AUTHSEC_TRIAL_", secrets=("key",), advice="unset it (the manual)")


class Settings(BaseSettings):
    """The settings of no service in particular."""

    model_config = SettingsConfigDict(env_prefix=NAMING.prefix)

    limit: int = 1
    port: int = 80
    key: SecretStr | None = None
    env_file: Path | None = None


def read(**arguments: Any) -> dict[str, Any]:
    """Return what is found, before it is validated."""

    class Given(PydanticBaseSettingsSource):
        def __call__(self) -> dict[str, Any]:
            return arguments

        def get_field_value(self, field: Any, field_name: str) -> Any:
            raise NotImplementedError

    return ServiceLayers(Settings, Given(Settings), NAMING)()


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables of the service."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(NAMING.prefix + name, value)

    return set_all


def test_each_layer_wins_over_the_next_and_is_handed_on(setenv: Any, tmp_path: Path) -> None:
    """Arguments over environment over the named file; None is not given."""
    (tmp_path / "named").write_text("AUTHSEC_TRIAL_LIMIT=3\nAUTHSEC_TRIAL_PORT=3\nAUTHSEC_TRIAL_KEY=canary\nOTHER=1\n")
    setenv(LIMIT="2", PORT="2", ENV_FILE="named")
    found = read(limit=1, port=None)
    layers = found.pop(LAYERS)
    assert found == {"limit": 1, "port": "2", "env_file": "named", "key": SecretStr("canary")}
    assert layers["argument"] == {"limit": 1}
    assert layers["environment"] == {"limit": "2", "port": "2", "env_file": "named"}
    assert layers["env file"] == {"limit": "3", "port": "3", "key": SecretStr("canary")}
    assert "canary" not in repr(layers)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"LIMITT": "1"}, "AUTHSEC_TRIAL_LIMITT is not a setting: did you mean AUTHSEC_TRIAL_LIMIT?"),
        ({"XYZ": "1"}, r"AUTHSEC_TRIAL_XYZ is not a setting: unset it \(the manual\)"),
        ({"HTTP_PORT": "80"}, "AUTHSEC_TRIAL_HTTP_PORT is not a setting"),
        ({"KEY": " "}, "AUTHSEC_TRIAL_KEY is set but blank"),
        ({"ENV_FILE": "nowhere"}, "AUTHSEC_TRIAL_ENV_FILE: the file is not there"),
        ({"ENV_FILE": "latin"}, "AUTHSEC_TRIAL_ENV_FILE: the file is not UTF-8"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(setenv: Any, tmp_path: Path, variables: dict[str, str], says: str) -> None:
    """The message names the variable and the mend, and quotes no file."""
    (tmp_path / "latin").write_bytes(b"AUTHSEC_TRIAL_KEY=canary-\xff\n")
    setenv(**variables)
    with pytest.raises(ConfigurationError, match=says) as caught:
        read()
    assert caught.value.__context__ is None


def test_an_argument_that_is_no_setting_is_a_type_error() -> None:
    """What no environment did, a programmer mends."""
    with pytest.raises(TypeError, match=r"Settings.* has no setting 'limitt'"):
        read(limitt=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_HOST", "10.0.0.7"),
        ("SERVICE_PORT", "80"),
        ("SERVICE_PORT_HTTP", "80"),
        ("SERVICE_PORT_PORT", "80"),
        ("PORT", "tcp://10.0.0.7:80"),
        ("PORT_80_TCP", "tcp://10.0.0.7:80"),
        ("PORT_80_TCP_PROTO", "tcp"),
        ("PORT_80_TCP_PORT", "80"),
        ("PORT_80_TCP_ADDR", "10.0.0.7"),
        ("DATABASE_SERVICE_PORT", "5432"),
        ("DATABASE_PORT", "tcp://10.0.0.8:5432"),
        ("DATABASE_PORT_5432_TCP_PORT", "5432"),
    ],
)
def test_what_kubernetes_sets_is_no_setting(setenv: Any, name: str, value: str) -> None:
    """A Service that is called like the service, or begins so, gives each pod variables of that name."""
    setenv(**{name: value})
    assert read() == {LAYERS: {"env file": {}, "environment": {}, "argument": {}}}


def test_a_port_that_kubernetes_did_not_set_is_one(setenv: Any) -> None:
    """Where a service has a setting of that name, what it says decides."""
    setenv(PORT="8080")
    assert read()["port"] == "8080"


@pytest.mark.parametrize(("value", "blank"), [("", True), (SecretStr(" "), True), ("x", False), (0, False)], ids=repr)
def test_blank_is_text_with_nothing_in_it(value: object, blank: bool) -> None:
    """Also where it is wrapped; what is no text is not blank."""
    assert is_blank(value) is blank
