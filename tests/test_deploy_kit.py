"""Is the deployment kit in docs/deploy/kit one that can be used: settings, commands and routes that there are?

No container, cluster or systemd is started. `test_deploy_kubernetes` has what is for Kubernetes alone, and
`test_deploy_machine` what is for one machine.
"""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folders

from deploy_kit import (
    COMPOSE,
    DEPLOY,
    FILES,
    KIT,
    PAGES,
    ROOT,
    SERVERS,
    SERVICES,
    SETTINGS,
    URL,
    ours_in,
    shell_of,
    text_of,
)

from authsec_core import AuthSecConfig
from authsec_core._layers import variable
from authsec_core.cli._arguments import UsageError
from authsec_server.cli._arguments import parse
from authsec_server.settings import ServerSettings

# What the pages have made by then, and is read while the arguments are.
MADE: Final = {"jwks.json": '{"keys": []}'}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


# The pages and the files


def test_every_file_is_on_a_page_as_it_is() -> None:
    """A page includes a file by its path, so that it shows the file word for word; no file is left out."""
    included = {
        match
        for page in PAGES
        for match in re.findall(r'^--8<-- "(.+)"$', page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert included == {path.relative_to(ROOT).as_posix() for path in FILES}
    assert len(FILES) > 15


@each_page
def test_every_page_can_be_found(page: Path) -> None:
    """It is in the site's navigation."""
    assert f"      - deploy/{page.name}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_no_registry_is_named() -> None:
    """Images have short names: where they come from is for whoever runs them."""
    named = re.findall(r"^(?:FROM|\s*-?\s*image:) (\S+)", "\n".join(map(text_of, FILES)), re.MULTILINE)
    assert len(named) > 6
    assert [image for image in named if "/" in image or not re.search(r":\w", image)] == []


# Commands


# How a page runs our command: by its name, by the script of the kit, or in a container.
_STARTS: Final = re.compile(
    r"^(?:\S*/|sudo )?(?:authsec-server|authsec-run)\s+"
    r"|^docker compose run --rm authority-\d "
    r"|^docker compose exec authority-\d authsec-server "
    r"|^kubectl exec .* -- authsec-server "
)


def _commands() -> list[Any]:
    found = []
    for page in PAGES:
        cells = [code for line in text_of(page).splitlines() if line.startswith("| ") for code in _codes(line)]
        for line in (*shell_of(page), *cells):
            if start := _STARTS.match(line):
                arguments = re.split(r" [|>] ", line[start.end() :])[0]
                found.append(pytest.param(shlex.split(arguments), id=f"{page.name}: {arguments}"))
    for name, service in SERVICES.items():
        found.append(pytest.param(service.get("command", ["serve"]), id=f"compose.yaml: {name}"))
    for name, pod in SERVERS.items():
        found += [pytest.param(each["args"], id=name) for each in ours_in(pod)]
    return found


def _codes(line: str) -> list[str]:
    return re.findall(r"`([^`]+)`", line)


@pytest.mark.parametrize("arguments", _commands())
def test_a_command_is_one_that_there_is(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of ours on a page or in the kit has arguments that exist."""
    monkeypatch.chdir(tmp_path)
    for name, text in MADE.items():
        Path(name).write_text(text, encoding="utf-8")
    assert parse(arguments).command


def test_commands_are_looked_for_where_they_are() -> None:
    """The test above cannot pass by finding none, nor by believing everything."""
    found = [" ".join(each.values[0]) for each in _commands()]
    assert len(found) > 30
    for wanted in ("serve", "migrate", "init --admin ada", "verify-audit", "whoami", "issuers register"):
        assert any(wanted in each for each in found), wanted
    with pytest.raises(UsageError):
        parse(["admin", "issuers", "enrol"])


def test_the_unit_and_the_image_start_the_server() -> None:
    """`ExecStart` and the entry point are our command, with arguments that exist."""
    (start,) = re.findall(r"^ExecStart=/opt/authsec/bin/authsec-server (.+)$", text_of(KIT / "authsec.service"), re.M)
    assert parse(shlex.split(start)).command == "serve"
    image = text_of(KIT / "Dockerfile")
    assert 'ENTRYPOINT ["authsec-server"]\nCMD ["serve"]\n' in image
    assert "USER 10001:10001\n" in image
    assert all(pod["securityContext"]["runAsUser"] == 10001 for pod in SERVERS.values())


# Settings


def _environment_of(lines: str) -> dict[str, str]:
    return dict(re.findall(r"^(?:Environment=)?(AUTHSEC_\w+)=(.*)$", lines, re.MULTILINE))


def _environments() -> dict[str, dict[str, str]]:
    """Return what each server of the kit is started with, the secrets filled in."""
    unit = _environment_of(text_of(KIT / "authsec.env")) | _environment_of(text_of(KIT / "authsec.service"))
    found = {"systemd": unit, "proxy.md": _environment_of(text_of(DEPLOY / "proxy.md"))}
    found["proxy.md"] |= {name: unit[name] for name in ("AUTHSEC_SERVER_PUBLIC_URL", "AUTHSEC_SERVER_DATA_DIR")}
    for name, service in SERVICES.items():
        file = re.search(
            r'echo "(AUTHSEC_SERVER_DATABASE_URL=.*)" > secrets/database.env', text_of(DEPLOY / "compose.md")
        )
        assert file is not None
        secret = _environment_of(re.sub(r"\$\(.*?\)", "secret", file[1]))
        found[name] = {key: value for key, value in service["environment"].items() if key != "AUTHSEC_SERVER_ENV_FILE"}
        found[name] |= secret
    for name, pod in SERVERS.items():
        for container in ours_in(pod):
            assert container["envFrom"] == [{"configMapRef": {"name": "authsec-settings"}}]
            assert [each["name"] for each in container["env"]] == ["AUTHSEC_SERVER_DATABASE_URL"]
            found[name] = {**SETTINGS, "AUTHSEC_SERVER_DATABASE_URL": URL}
    return found


ENVIRONMENTS = _environments()


@pytest.mark.req("RO1")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_settings_are_safe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each server of the kit has settings that exist, and that are not refused."""
    for key, value in ENVIRONMENTS[name].items():
        monkeypatch.setenv(key, value)
    settings = ServerSettings()
    assert settings.issuer == "https://authority.example.com/authsec"
    assert settings.behind_proxy
    assert settings.trusted_proxies
    assert settings.master_key is None


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    """No file and no page names a variable of ours that there is not."""
    known = {setting.variable for setting in ServerSettings.describe()} | set(map(variable, AuthSecConfig.model_fields))
    known |= {"AUTHSEC_ADMIN_URL", "AUTHSEC_ADMIN_TOKEN"}
    assert set(re.findall(r"\bAUTHSEC_\w*[A-Z0-9]\b", text_of(path))) <= known


def test_every_service_of_compose_gets_its_secrets() -> None:
    """Files that the settings name are mounted secrets, and each secret is one that is made on the page."""
    for service in SERVICES.values():
        paths = [value for value in service["environment"].values() if str(value).startswith("/run/secrets/")]
        assert sorted(Path(path).name for path in paths) == sorted(service["secrets"])
    page = text_of(DEPLOY / "compose.md")
    for secret in COMPOSE["secrets"].values():
        assert f"> {secret['file'].removeprefix('./')}" in page


def test_only_the_proxy_is_believed() -> None:
    """The address that the servers trust is the one that compose gives to the proxy, in the network that they share."""
    address = COMPOSE["services"]["proxy"]["networks"]["inside"]["ipv4_address"]
    for service in SERVICES.values():
        assert service["environment"]["AUTHSEC_SERVER_TRUSTED_PROXIES"] == address
        assert service["networks"] == ["inside"]
        assert "ports" not in service
    assert COMPOSE["networks"]["inside"]["internal"] is True


# Proxies


@pytest.mark.parametrize("name", ["Caddyfile", "nginx.conf"])
def test_a_proxy_lets_go_of_connections_before_the_server_does(name: str) -> None:
    """Or a request would cross the server's closing of the connection."""
    kept = inspect.signature(uvicorn.Config).parameters["timeout_keep_alive"].default
    (seconds,) = re.findall(r"^\s*keepalive(?:_timeout)? (\d+)s;?$", text_of(KIT / name), re.MULTILINE)
    assert int(seconds) < kept == 5
    assert "keep idle connections for less than 5 seconds" in text_of(DEPLOY / "proxy.md")


def test_a_proxy_waits_longer_than_the_server() -> None:
    """The server gives up first, and says so."""
    waits = [int(re.findall(rf"{name} (\d+)s", text_of(KIT / file))[0]) for file, name in _WAITS]
    assert min(waits) > ServerSettings.model_fields["request_timeout"].default


_WAITS: Final = (("Caddyfile", "response_header_timeout"), ("nginx.conf", "proxy_read_timeout"))
