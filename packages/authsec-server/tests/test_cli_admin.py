"""`authsec-server admin`: what is sent for what is typed, and what is shown of the reply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_cli_support import CLIENT, TOKEN, Desk, stub

from authsec_core.testing import FakeClock, LoopbackServer, Raw, Reply, Request, loopback_certificate
from authsec_core.wire import format_time

PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture
def desk(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    """An operator who has the address and a token in the environment."""
    server, desk = stub(lambda server: Desk(clock, capsys, server))
    with server:
        monkeypatch.setenv("AUTHSEC_ADMIN_URL", server.base_url)
        monkeypatch.setenv("AUTHSEC_ADMIN_TOKEN", TOKEN)
        yield desk


def pages(*items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the replies by cursor, of which the first is blank."""
    last = len(items) - 1
    return {
        str(number or ""): {"items": page, "next": None if number == last else str(number + 1)}
        for number, page in enumerate(items)
    }


def answer_pages(desk: Desk, *items: list[dict[str, Any]]) -> None:
    """Let the authority hand out these pages."""
    found = pages(*items)
    desk.answer = lambda request: Reply.of_json(found[dict(request.query).get("after", "")])


class TestRequests:
    """What is sent."""

    def test_a_key_set_comes_from_a_file(self, desk: Desk, tmp_path: Path) -> None:
        """Its content is sent; a file that holds no JSON object is wrong usage, and nothing of it is shown."""
        desk.answer = lambda request: Reply.of_json(request.json(), status=201)
        file = tmp_path / "jwks.json"
        file.write_text('{"keys": []}')
        typed = ["issuers", "register", "main", "--kind", "kubernetes", "--issuer", "https://k.example", "--default"]
        typed.append("--jwks")
        assert desk.run("admin", *typed, str(file)).code == 0
        assert desk.sent.json() == {
            "name": "main",
            "kind": "kubernetes",
            "issuer": "https://k.example",
            "jwks": {"keys": []},
            "is_default": True,
        }
        for content in ("[]", "canary-of-the-file", '"canary-of-the-file"', "[" * 100_000):
            file.write_text(content)
            printed = desk.run("admin", *typed, str(file), secrets=("canary-of-the-file",))
            assert (printed.code, "--jwks" in printed.err) == (2, True)
        file.unlink()
        assert desk.run("admin", *typed, str(file)).code == 2
        assert len(desk.requests) == 1

    @pytest.mark.parametrize(
        ("typed", "method", "path", "query", "body"),
        [
            ("whoami", "GET", "/whoami", {}, None),
            (
                "clients onboard helper --type mcp-agent --platform kubernetes --selector k8s:ns=a "
                "--selector k8s:sa=b=c",
                "POST",
                "/clients",
                {},
                {
                    "name": "helper",
                    "agent_type": "mcp-agent",
                    "platform": "kubernetes",
                    "selectors": {"k8s:ns": "a", "k8s:sa": "b=c"},
                },
            ),
            (f"clients disable {CLIENT}", "PATCH", f"/clients/{CLIENT}", {}, {"state": "disabled"}),
            (f"clients enable {CLIENT}", "PATCH", f"/clients/{CLIENT}", {}, {"state": "active"}),
            ("clients revoke a/b?c", "POST", "/clients/a%2Fb%3Fc/revoke", {}, None),
            ("clients list --limit 5 --after x=", "GET", "/clients", {"limit": "5", "after": "x="}, None),
            (f"keys create {CLIENT}", "POST", f"/clients/{CLIENT}/keys", {}, {}),
            (
                f"keys create {CLIENT} --label spare --not-after 2030-01-31T12:00:00+01:00",
                "POST",
                f"/clients/{CLIENT}/keys",
                {},
                {"label": "spare", "not_after": "2030-01-31T11:00:00Z"},
            ),
            ("roles put analyst read:a read:b", "PUT", "/roles/analyst", {}, {"permissions": ["read:a", "read:b"]}),
            ("roles delete analyst", "DELETE", "/roles/analyst", {}, None),
            (
                f"delegations create --role analyst --client {CLIENT} --target-type mcp-agent --max-duration 30m "
                "--action read:a --audience api --disabled",
                "POST",
                "/trust-delegations",
                {},
                {
                    "role": "analyst",
                    "client_id": CLIENT,
                    "target_type": "mcp-agent",
                    "max_duration": 30,
                    "unit": "minutes",
                    "allowed_actions": ["read:a"],
                    "audiences": ["api"],
                    "enabled": False,
                },
            ),
            (
                "delegations update d1 --all-actions --no-end --enable --max-duration 2d",
                "PATCH",
                "/trust-delegations/d1",
                {},
                {"allowed_actions": None, "not_after": None, "enabled": True, "max_duration": 2, "unit": "days"},
            ),
            (
                f"tokens dry-run {CLIENT} --ttl 2h --audience api",
                "POST",
                "/tokens/dry-run",
                {},
                {"client_id": CLIENT, "ttl": 7200, "audience": "api"},
            ),
            ("signing-keys prepare", "POST", "/signing-keys/prepare", {}, None),
            (
                "operators update o1 --role auditor --disable",
                "PATCH",
                "/operators/o1",
                {},
                {"role": "auditor", "enabled": False},
            ),
        ],
    )
    def test_what_is_typed_is_sent(
        self, typed: str, method: str, path: str, query: dict[str, str], body: Any, desk: Desk
    ) -> None:
        """Each field goes where the API takes it, and what was not typed is not sent."""
        assert desk.run("admin", *typed.split()).code == 0
        sent = desk.sent
        assert (sent.method, sent.path, dict(sent.query)) == (method, f"/api/v1{path}", query)
        assert (json.loads(sent.body) if sent.body else None) == body
        assert sent.headers["authorization"] == f"Bearer {TOKEN}"
        assert sent.headers.get("content-type", "") == ("application/json" if body is not None else "")

    def test_times_count_from_now(self, desk: Desk) -> None:
        """`--not-after 1h` is an hour ahead, `--since 2h` two hours ago, by the clock of whoever types it."""
        desk.run("admin", "keys", "create", CLIENT, "--not-after", "1h")
        now = desk.clock.wall()
        assert json.loads(desk.sent.body) == {"not_after": format_time(now + 3600)}
        desk.run("admin", "audit", "--since", "2h", "--until", "90s")
        assert dict(desk.sent.query) == {"since": format_time(now - 7200), "until": format_time(now - 90)}

    def test_the_token_may_stand_in_a_file(self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`--token-file` wins over the environment, and line ends around the token do no harm."""
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        monkeypatch.setenv("AUTHSEC_ADMIN_TOKEN", "another")
        assert desk.run("admin", "whoami", "--token-file", str(tmp_path / "token")).code == 0
        assert desk.sent.headers["authorization"] == f"Bearer {TOKEN}"


class TestPeer:
    """Whom the operator's token goes to."""

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({"AUTHSEC_ADMIN_URL": ""}, "AUTHSEC_ADMIN_URL: set it"),
            ({"AUTHSEC_ADMIN_URL": "http://authority.example.com"}, "AUTHSEC_ADMIN_URL: it is http"),
            (
                {"AUTHSEC_ADMIN_URL": f"https://x:{TOKEN}@authority.example.com"},
                "AUTHSEC_ADMIN_URL: it has a user name",
            ),
            ({"AUTHSEC_ADMIN_TOKEN": " "}, "AUTHSEC_ADMIN_TOKEN: there is no operator token in it"),
            (
                {"AUTHSEC_ADMIN_TOKEN": f"{TOKEN}\r\nX: y"},
                "AUTHSEC_ADMIN_TOKEN: what it holds is not an operator token",
            ),
            ({"AUTHSEC_ADMIN_CA_FILE": "missing.pem"}, "AUTHSEC_ADMIN_CA_FILE: the file cannot be read"),
        ],
    )
    def test_unsafe_or_missing_settings(
        self, variables: dict[str, str], words: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are refused by name with exit code 2, and nothing is sent."""
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        printed = desk.run("admin", "whoami")
        assert printed.code == 2
        assert words in printed.err
        assert desk.requests == ()

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", None])
    def test_a_token_file_that_has_no_token(self, content: bytes | None, desk: Desk, tmp_path: Path) -> None:
        """It is a setting to mend, and what it holds is not shown."""
        if content is not None:
            (tmp_path / "token").write_bytes(content)
        printed = desk.run("admin", "whoami", "--token-file", str(tmp_path / "token"), "--json")
        assert (printed.code, printed.json["code"]) == (2, "configuration")
        assert printed.json["message"].startswith("--token-file: ")

    @pytest.mark.req("RS9")
    def test_no_redirect_is_followed(self, desk: Desk) -> None:
        """Wherever it points: the token stays with the authority."""
        with LoopbackServer(lambda _: Reply.of_json({})) as elsewhere:
            desk.answer = lambda _: Reply(status=307, headers={"Location": f"{elsewhere.base_url}/api/v1/whoami"})
            printed = desk.run("admin", "whoami")
            assert elsewhere.requests == ()
        assert printed.code == 1
        assert "redirect, which is not followed" in printed.err

    @pytest.mark.req("RS9")
    def test_the_environment_names_no_proxy_and_no_netrc(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Neither is asked, and the operator's own token is sent."""
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert desk.run("admin", "whoami").code == 0
        assert desk.sent.headers["authorization"] == f"Bearer {TOKEN}"

    @pytest.mark.req("RS3")
    def test_an_unknown_certificate_authority(
        self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is sent to a server whose certificate nobody vouches for, until its CA is named."""
        certificate = loopback_certificate(tmp_path)
        with LoopbackServer(lambda _: Reply.of_json({"name": "ada"}), tls=certificate.context) as server:
            monkeypatch.setenv("AUTHSEC_ADMIN_URL", server.base_url)
            printed = desk.run("admin", "whoami", "--json")
            assert (printed.code, printed.json["code"], server.requests) == (1, "insecure_transport", ())
            monkeypatch.setenv("AUTHSEC_ADMIN_CA_FILE", str(certificate.ca_file))
            assert desk.run("admin", "whoami", "--json").json == {"name": "ada"}

    def test_an_authority_that_is_away(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is said whether the change may have been made, and trying again may help."""
        desk.answer = lambda _: Raw()
        printed = desk.run("admin", "clients", "revoke", CLIENT, "--json")
        assert (printed.code, printed.json["code"], printed.json["retryable"]) == (1, "authority_unreachable", True)
        assert "look whether the change was made" in printed.json["message"]
        monkeypatch.setenv("AUTHSEC_ADMIN_URL", "http://127.0.0.1:1")
        assert "cannot be reached" in desk.run("admin", "whoami").err


class TestReplies:
    """What is shown."""

    def test_programs_get_the_reply_as_it_is(self, desk: Desk) -> None:
        """With --json the reply is the one document on stdout."""
        reply = {"client_id": CLIENT, "selectors": {"k8s:ns": "a"}, "extra": [1, None]}
        desk.answer = lambda _: Reply.of_json(reply)
        printed = desk.run("admin", "clients", "show", CLIENT, "--json")
        assert (printed.json, printed.err, printed.code) == (reply, "", 0)

    def test_people_get_a_table(self, desk: Desk) -> None:
        """A member per row; lists and objects as text, booleans as words."""
        reply = {"client_id": CLIENT, "selectors": {"k8s:ns": "a"}, "enabled": True, "audiences": ["x", "y"], "n": None}
        desk.answer = lambda _: Reply.of_json(reply)
        printed = desk.run("admin", "clients", "show", CLIENT)
        for words in (CLIENT, "k8s:ns=a", "yes", "x y"):
            assert words in printed.out
        assert (printed.err, printed.code) == ("", 0)

    def test_a_list_of_objects_is_a_table_of_its_own(self, desk: Desk) -> None:
        """A dry run shows the verdict, and below it what each delegation says."""
        desk.answer = lambda _: Reply.of_json(
            {"granted": False, "delegations": [{"delegation_id": "d1", "message": "is disabled"}]}
        )
        printed = desk.run("admin", "tokens", "dry-run", CLIENT)
        assert "is disabled" in printed.out
        assert "delegation_id" in printed.out

    @pytest.mark.parametrize(
        ("typed", "member"), [(f"keys create {CLIENT}", "agent_key"), ("operator-tokens create o1", "token")]
    )
    def test_what_is_shown_once_stands_alone(self, typed: str, member: str, desk: Desk) -> None:
        """On a line of its own, unfolded, so that it can be copied; and stderr says that it will not come back."""
        secret = "agk_0123456789abcdef." + "x" * 120
        desk.answer = lambda _: Reply.of_json({"key_id": "k1", member: secret}, status=201)
        printed = desk.run("admin", *typed.split())
        assert secret in printed.out.splitlines()
        assert printed.out.count("x" * 20) == 6  # there, and not in the table
        assert "shown once" in printed.err

    def test_a_reply_without_body(self, desk: Desk) -> None:
        """It says that it was done; programs get an empty object."""
        desk.answer = lambda _: Reply(status=204)
        printed = desk.run("admin", "tokens", "revoke", "j1")
        assert (printed.out, printed.err, printed.code) == ("", "authsec-server: done\n", 0)
        assert desk.run("admin", "tokens", "revoke", "j1", "--json").json == {}

    def test_the_authority_refuses(self, desk: Desk) -> None:
        """People get code, member and detail on stderr; programs the problem as it is; the exit code is 1."""
        problem = {"type": "about:blank", "status": 409, "code": "conflict", "detail": "it is taken", "field": "name"}
        desk.answer = lambda _: Reply(status=409, headers=PROBLEM, body=json.dumps(problem).encode())
        typed = ("admin", "operators", "create", "ada", "--role", "admin")
        printed = desk.run(*typed)
        assert (printed.code, printed.out, printed.err) == (1, "", "authsec-server: conflict (name): it is taken\n")
        printed = desk.run(*typed, "--json")
        assert (printed.code, printed.json, printed.err) == (1, problem, "")

    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            (Reply(body=b"<html>"), "bad_reply"),
            (Reply(body=b"[1]"), "bad_reply"),
            (Reply(body=b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "bad_reply"),
            (Reply(body=b'{"a": 1e999}'), "bad_reply"),
            (Reply(body=b"{}", headers={"Content-Encoding": "gzip"}), "bad_reply"),
            (Reply(body=b'{"a":"' + b"x" * (17 * 1024 * 1024) + b'"}'), "bad_reply"),
            (Reply(status=502, body=b"<html>bad gateway"), "http_502"),
        ],
    )
    def test_a_reply_of_something_else(self, reply: Reply, code: str, desk: Desk) -> None:
        """What is no reply of this API is not shown, and is a failure."""
        desk.answer = lambda _: reply
        printed = desk.run("admin", "whoami", "--json")
        assert (printed.code, printed.json["code"]) == (1, code)
        assert "html" not in printed.out

    @pytest.mark.parametrize("more", [(), ("--all",), ("--jsonl",)])
    @pytest.mark.parametrize("items", [None, 5, {"a": 1}, "text"])
    def test_a_list_that_is_none(self, items: Any, more: tuple[str, ...], desk: Desk) -> None:
        """It is a broken reply, and no traceback."""
        desk.answer = lambda _: Reply.of_json({"items": items, "next": None})
        printed = desk.run("admin", "roles", "list", *more)
        assert (printed.code, printed.out) == (1, "")
        assert printed.err.startswith("authsec-server: bad_reply: ")

    @pytest.mark.parametrize("more", [(), ("--json",)])
    def test_a_reply_of_odd_members(self, more: tuple[str, ...], desk: Desk) -> None:
        """Whatever types they have, they are shown."""
        for status in (200, 409):
            body = {"a": [1, {"b": None}], "items": 3, "code": [1], "detail": {"x": 1}, "field": 2.5, "": {}}
            desk.answer = lambda _, body=body, status=status: Reply.of_json(body, status=status)  # type: ignore[misc]
            assert desk.run("admin", "whoami", *more).code == int(status != 200)

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize("status", [200, 403])
    def test_a_token_that_comes_back_is_not_shown(self, status: int, desk: Desk) -> None:
        """Whatever member a hostile peer puts it into."""
        body = {"name": f"you sent {TOKEN}", "detail": TOKEN, TOKEN: 1, "code": TOKEN}
        desk.answer = lambda _: Reply.of_json(body, status=status)
        for more in ((), ("--json",)):
            printed = desk.run("admin", "whoami", *more)
            assert "[removed]" in printed.out + printed.err

    @pytest.mark.req("RU3")
    def test_text_cannot_take_hold_of_the_terminal(self, desk: Desk) -> None:
        """What an agent called itself is spelled out where it has control characters."""
        answer_pages(desk, [{"client_id": CLIENT, "name": "\x1b]0;x\x07\n\u202eevil", "state": "active"}])
        printed = desk.run("admin", "clients", "list")
        assert r"\x1b]0;x\x07\n\u202eevil" in printed.out.replace("\n", "")
        assert not {"\x1b", "\x07", "\u202e"} & set(printed.out)
        desk.answer = lambda _: Reply.of_json({"agent_key": "agk_\x1b[2J"})
        assert desk.run("admin", "keys", "create", CLIENT).out == "agk_\\x1b[2J\n"


class TestPages:
    """Long lists."""

    def test_one_page_says_that_there_is_more(self, desk: Desk) -> None:
        """And how to see it."""
        answer_pages(desk, [{"name": "one"}], [{"name": "two"}])
        printed = desk.run("admin", "roles", "list")
        assert "one" in printed.out
        assert "two" not in printed.out
        assert printed.err == "authsec-server: there is more: add --after 1, or --all\n"

    def test_every_page(self, desk: Desk) -> None:
        """`--all` asks until there is no more, and shows one table or one document."""
        answer_pages(desk, [{"name": "one"}], [{"name": "two"}], [{"name": "three"}])
        assert desk.run("admin", "roles", "list", "--all", "--json").json == {
            "items": [{"name": "one"}, {"name": "two"}, {"name": "three"}],
            "next": None,
        }
        assert [request.parameters("after") for request in desk.requests] == [(), ("1",), ("2",)]

    def test_lines_of_json(self, desk: Desk) -> None:
        """`--jsonl` prints item after item, in ASCII, as many as `--limit` says, whatever fits one page."""
        answer_pages(desk, [{"seq": 1, "reason": "é\n\x7f"}, {"seq": 2}], [{"seq": 3}, {"seq": 4}])
        printed = desk.run("admin", "audit", "--jsonl", "--limit", "3")
        lines = printed.out.splitlines()
        assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
        assert json.loads(lines[0])["reason"] == "é\n\x7f"
        assert (printed.out.isascii(), "\x7f" in printed.out, printed.err) == (True, False, "")
        desk.run("admin", "audit", "--jsonl", "--limit", "1000")
        assert dict(desk.sent.query)["limit"] == "200"
        assert len(desk.run("admin", "audit", "--jsonl", "--json").out.splitlines()) == 4

    def test_a_cursor_that_goes_nowhere(self, desk: Desk) -> None:
        """A list that names the same page again ends there."""
        desk.answer = lambda _: Reply.of_json({"items": [{"name": "x"}], "next": "same"})
        assert len(desk.run("admin", "roles", "list", "--jsonl").out.splitlines()) == 2

    def test_an_error_on_a_later_page(self, desk: Desk) -> None:
        """What was printed before it stays, and the exit code is 1."""

        def answer(request: Request) -> Reply:
            if request.parameters("after"):
                return Reply.of_json({"code": "storage_unavailable", "detail": "try again"}, status=503)
            return Reply.of_json({"items": [{"seq": 1}], "next": "1"})

        desk.answer = answer
        printed = desk.run("admin", "audit", "--jsonl")
        assert (printed.code, json.loads(printed.out)) == (1, {"seq": 1})
        assert printed.err == "authsec-server: storage_unavailable: try again\n"
