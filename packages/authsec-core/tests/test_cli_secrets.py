"""`authsec secrets`: what it stores, shows and hides, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from vault_cli_support import CANARY, KEY, Stdin, VaultSetUp, running_vault

from authsec_core.testing import FakeClock, Reply

OPENAI = "production/openai/api-key"


@pytest.fixture
def setup(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[VaultSetUp]:
    """A vault with one secret, of two versions."""
    with running_vault(clock, monkeypatch, capsys) as setup:
        setup.vault.put(OPENAI, f"old-{CANARY}")
        setup.vault.put(OPENAI, CANARY, metadata={"owner": "search-team"})
        yield setup


class TestGet:
    """`secrets get`."""

    @pytest.mark.req("RW5")
    def test_the_value_is_hidden_and_not_even_read(self, setup: VaultSetUp) -> None:
        """Without being told to, it shows what is known of a secret, and no use of its value is on record."""
        printed = setup.run("secrets", "get", OPENAI)
        assert printed.code == 0
        for words in (OPENAI, "api_key", "standard", "owner=search-team", "(hidden)", "2027-01-15T08:30:00Z"):
            assert words in printed.out
        assert printed.err == "authsec (LIVE): the value is hidden: --reveal shows it\n"
        assert setup.vault.shown == [("GET", "/v1/secrets", KEY)]

    def test_a_revealed_value_stands_alone_on_stdout(self, setup: VaultSetUp) -> None:
        """Exactly its bytes, so that a pipe gets what was stored; what is said of it goes to stderr."""
        printed = setup.run("secrets", "get", OPENAI, "--reveal", shows=CANARY)
        assert (printed.code, printed.out) == (0, CANARY)
        assert printed.err == f"authsec (LIVE): version 2 of {OPENAI}\n"

    def test_a_terminal_gets_a_line_and_is_not_taken_hold_of(
        self, setup: VaultSetUp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A line end is added there, and what would move the cursor is spelled out, which it says."""
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        assert setup.run("secrets", "get", OPENAI, "--reveal", shows=CANARY).out == f"{CANARY}\n"
        setup.vault.put(OPENAI, f"{CANARY}\x1b[2J")
        printed = setup.run("secrets", "get", OPENAI, "--reveal", shows=CANARY)
        assert printed.out == f"{CANARY}\\x1b[2J\n"
        assert "spelled out" in printed.err

    def test_a_value_can_go_to_a_file_of_its_own(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Which only its owner can read, and which was not there before."""
        out = tmp_path / "key"
        printed = setup.run("secrets", "get", OPENAI, "--out", str(out), "--json")
        assert (printed.code, printed.json["out"], out.read_bytes()) == (0, str(out), CANARY.encode())
        if sys.platform != "win32":
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
        asked = len(setup.vault.shown)
        printed = setup.run("secrets", "get", OPENAI, "--out", str(out), "--json")
        assert (printed.code, printed.json["code"]) == (1, "input")
        assert "is there already" in printed.json["message"]
        assert len(setup.vault.shown) == asked  # nothing was read for a file that cannot be written

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
    def test_a_link_in_its_place_is_not_followed(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Neither to a file nor to where none is."""
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        assert setup.run("secrets", "get", OPENAI, "--out", str(tmp_path / "link")).code == 1
        assert not (tmp_path / "elsewhere").exists()

    def test_programs_get_one_document(self, setup: VaultSetUp) -> None:
        """Its members are stable; `value` is there when it was asked for."""
        said = setup.run("secrets", "get", OPENAI, "--json").json
        assert said["secret"] == {
            "path": OPENAI,
            "namespace": "production/openai",
            "key": "api-key",
            "version": 2,
            "secret_type": "api_key",
            "access_tier": "standard",
            "metadata": {"owner": "search-team"},
            "created_at": "2027-01-15T08:00:00Z",
            "updated_at": "2027-01-15T08:30:00Z",
        }
        assert (said["status"], said["mode"], "value" in said) == ("success", "live", False)
        assert setup.run("secrets", "get", OPENAI, "--json", "--reveal", shows=CANARY).json["value"] == CANARY

    def test_an_earlier_version_can_be_read(self, setup: VaultSetUp) -> None:
        """Of which nothing but its value is kept, so that it needs to be asked for."""
        printed = setup.run("secrets", "get", OPENAI, "--version", "1", "--reveal", shows=f"old-{CANARY}")
        assert printed.out == f"old-{CANARY}"
        assert setup.run("secrets", "get", OPENAI, "--version", "1", "--json").json["code"] == "input"

    def test_the_audit_is_told_who_reads_and_why(self, setup: VaultSetUp) -> None:
        """As the claims of the one who reads."""
        setup.run("secrets", "get", OPENAI, "--reveal", shows=CANARY)
        told = ("--agent-name", "Ada", "--reason", "a look")
        setup.run("secrets", "get", OPENAI, "--reveal", *told, shows=CANARY)
        headers = [request.headers for request in setup.vault.server.requests]
        assert [head.get("x-access-reason") for head in headers] == ["authsec secrets get", "a look"]
        assert [head.get("x-agent-name") for head in headers] == [None, "Ada"]

    def test_what_is_not_there(self, setup: VaultSetUp) -> None:
        """Has one code, whether its value was wanted or not."""
        for argv in (("--json",), ("--json", "--reveal")):
            printed = setup.run("secrets", "get", "production/openai/other", *argv)
            assert (printed.code, printed.json["code"], printed.json["mode"]) == (1, "secret_not_found", "live")


class TestSet:
    """`secrets set`."""

    @pytest.mark.req("RW5")
    def test_a_value_comes_from_stdin(self, setup: VaultSetUp) -> None:
        """Without the line end of `echo`; what is printed is what is known of it."""
        value = f"new-{CANARY}"
        printed = setup.run("secrets", "set", OPENAI, "--tier", "sensitive", "--json", stdin=f"{value}\n")
        assert (printed.code, setup.vault.value(OPENAI)) == (0, value)
        assert (printed.json["secret"]["version"], printed.json["secret"]["access_tier"]) == (3, "sensitive")
        assert printed.json["message"] == f"{OPENAI} is stored as version 3"

    @pytest.mark.parametrize(
        ("argv", "typed", "stored"),
        [
            ((), "a\r\n", "a"),
            ((), "a\n\n", "a\n"),
            (("--exact",), "-----BEGIN-----\n", "-----BEGIN-----\n"),
            ((), "\ufeffno mark is taken away", "\ufeffno mark is taken away"),
        ],
    )
    def test_one_line_end_is_taken_away(
        self, setup: VaultSetUp, argv: tuple[str, ...], typed: str, stored: str
    ) -> None:
        """And nothing else; with `--exact` not even that."""
        assert setup.run("secrets", "set", OPENAI, *argv, stdin=typed).code == 0
        assert setup.vault.value(OPENAI) == stored

    def test_all_that_is_kept_beside_it(self, setup: VaultSetUp) -> None:
        """Kind, tier and metadata go with it; what was not typed is left to the vault."""
        argv = ("--type", "ssh_key", "--tier", "critical", "--metadata", "owner=ops", "--metadata", "url=a=b")
        setup.run("secrets", "set", "production/ssh/key", *argv, stdin=CANARY)
        beside = {"secret_type": "ssh_key", "access_tier": "critical", "metadata": {"owner": "ops", "url": "a=b"}}
        assert setup.vault.secrets["production/ssh/key"][1] == beside
        setup.run("secrets", "set", "production/plain/key", stdin=CANARY)
        assert setup.vault.secrets["production/plain/key"][1] == {}

    def test_a_terminal_is_asked_twice(self, setup: VaultSetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without echo; two that differ are not stored."""
        answers = [CANARY, CANARY, CANARY, "another"]
        monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
        assert setup.run("secrets", "set", OPENAI, stdin=Stdin("", terminal=True)).code == 0
        printed = setup.run("secrets", "set", OPENAI, "--json", stdin=Stdin("", terminal=True))
        assert (printed.json["code"], "not the same" in printed.json["message"]) == ("input", True)
        assert len(setup.vault.secrets[OPENAI][0]) == 3

    @pytest.mark.parametrize(
        ("typed", "words"), [("", "no value"), ("\n", "no value"), ("x" * 65537, "64 KiB"), (b"\xff\xfe", "not UTF-8")]
    )
    def test_what_cannot_be_stored(self, setup: VaultSetUp, typed: str | bytes, words: str) -> None:
        """Is refused before anything is asked."""
        printed = setup.run("secrets", "set", OPENAI, "--json", stdin=typed)
        assert (printed.code, printed.json["code"], words in printed.json["message"]) == (1, "input", True)
        assert not setup.vault.shown

    def test_the_longest_value(self, setup: VaultSetUp) -> None:
        """Of 64 KiB, with the line end of `echo` behind it, goes through."""
        assert setup.run("secrets", "set", OPENAI, stdin="x" * 65536 + "\r\n").code == 0
        assert setup.vault.value(OPENAI) == "x" * 65536

    @pytest.mark.req("RW5")
    def test_a_typed_value_is_refused_and_not_repeated(self, setup: VaultSetUp) -> None:
        """There is no place for one on the command line; whoever tries is told where it belongs."""
        for argv in (("set", OPENAI, "sk-typed-by-mistake"), ("rotate", OPENAI, "sk-typed-by-mistake")):
            printed = setup.run("secrets", *argv)
            assert (printed.code, "read from stdin or a prompt" in printed.err) == (2, True)
            assert "sk-typed" not in printed.err
        printed = setup.run("secrets", "set", OPENAI, "--value", "sk-typed-by-mistake")
        assert "there is no option --value" in printed.err
        assert not setup.vault.shown


class TestList:
    """`secrets list`."""

    @pytest.mark.req("RW5")
    def test_a_table_without_values(self, setup: VaultSetUp) -> None:
        """Path, version, kind, tier and time of each."""
        setup.vault.put("staging/tavily/api-key", f"other-{CANARY}", access_tier="critical")
        printed = setup.run("secrets", "list")
        assert printed.code == 0
        assert re.search(
            rf"{OPENAI} +2 +api_key +standard +owner=search-team +2027-01-15T08:30:00Z +\*\*\*", printed.out
        )
        assert "critical" in printed.out
        assert printed.err == "authsec (LIVE): 2 secrets\n"

    def test_one_namespace(self, setup: VaultSetUp) -> None:
        """Only what lies in it and below."""
        setup.vault.put("staging/tavily/api-key", f"other-{CANARY}")
        said = setup.run("secrets", "list", "staging", "--json").json
        assert (said["namespace"], [secret["path"] for secret in said["secrets"]]) == (
            "staging",
            ["staging/tavily/api-key"],
        )


class TestDelete:
    """`secrets delete`."""

    @pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
    def test_somebody_has_to_say_so(self, setup: VaultSetUp, answer: str, code: int) -> None:
        """On a terminal it asks back, and takes everything but a yes for a no."""
        printed = setup.run("secrets", "delete", OPENAI, stdin=Stdin(answer, terminal=True))
        assert (printed.code, OPENAI in setup.vault.secrets) == (code, bool(code))
        assert f"Delete {OPENAI} with all its versions" in printed.err

    def test_a_script_says_yes(self, setup: VaultSetUp) -> None:
        """Where nobody can be asked, nothing is deleted without it."""
        printed = setup.run("secrets", "delete", OPENAI, "--json", stdin="y\n")
        assert (printed.code, "--yes" in printed.json["message"]) == (1, True)
        assert not setup.vault.shown
        assert setup.run("secrets", "delete", OPENAI, "--yes", "--json").json["deleted"] == OPENAI
        assert OPENAI not in setup.vault.secrets


class TestRotate:
    """`secrets rotate`."""

    def test_the_new_value_comes_from_stdin(self, setup: VaultSetUp) -> None:
        """As for `set`."""
        printed = setup.run("secrets", "rotate", OPENAI, "--json", stdin=f"new-{CANARY}\n")
        assert (printed.json["secret"]["version"], setup.vault.value(OPENAI)) == (3, f"new-{CANARY}")

    def test_the_vault_makes_one_up_only_when_told_to(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Because a value that was made up here is none that another service knows; it is shown when asked for."""
        assert setup.run("secrets", "rotate", OPENAI, stdin="").code == 1
        assert setup.run("secrets", "rotate", OPENAI, "--generate").code == 0
        made = setup.vault.value(OPENAI)
        assert setup.run("secrets", "rotate", OPENAI, "--generate", "--reveal", shows=made).out == made
        setup.run("secrets", "rotate", OPENAI, "--generate", "--out", str(tmp_path / "made"))
        assert (tmp_path / "made").read_text() == made


class TestImport:
    """`secrets import`."""

    def test_a_file_becomes_secrets(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """The names are shown, and how to be rid of the file."""
        source = tmp_path / "my .env"
        source.write_text(f"A_KEY='{CANARY}'\nB_KEY=second-{CANARY}\nEMPTY=\n")
        argv = ("--namespace", "production", "--tier", "sensitive", "--type", "custom", "--metadata", "from=env")
        printed = setup.run("secrets", "import", str(source), *argv)
        assert (printed.code, printed.out.split()) == (0, ["A_KEY", "B_KEY"])
        assert "2 secrets stored in production, 1 name without a value left out; now delete the file: " in printed.err
        if os.name == "posix":
            assert f"rm '{source}'" in printed.err
        versions, beside = setup.vault.secrets["production/A_KEY"]
        assert (versions, beside["access_tier"], beside["metadata"]) == ([CANARY], "sensitive", {"from": "env"})
        assert source.exists()

    def test_programs_are_told_the_same(self, setup: VaultSetUp) -> None:
        """From stdin, where there is nothing to delete."""
        said = setup.run("secrets", "import", "-", "--namespace", "a", "--json", stdin=f"A={CANARY}\n").json
        assert (said["namespace"], said["names"], said["skipped"], "next" in said) == ("a", ["A"], 0, False)

    @pytest.mark.req("RW5")
    def test_lines_that_cannot_be_read_are_numbered(self, setup: VaultSetUp) -> None:
        """And not quoted: they may hold a secret. Nothing is stored."""
        printed = setup.run("secrets", "import", "-", "--namespace", "a", "--json", stdin=f"{CANARY}\n")
        assert (printed.code, printed.json["code"], printed.json["lines"]) == (1, "vault_bad_request", [1])
        assert "write it out or put it into single quotes" in printed.json["message"]
        assert list(setup.vault.secrets) == [OPENAI]

    def test_a_text_that_the_vault_does_not_take(self, setup: VaultSetUp) -> None:
        """Is refused as a whole, with what it takes."""
        setup.vault.failing["/v1/secrets/import"] = Reply(status=400, body=b"{}")
        said = setup.run("secrets", "import", "-", "--namespace", "a", "--json", stdin="A=1\n").json
        assert (said["code"], "lines" in said, "1 to 128 names" in said["message"]) == (
            "vault_bad_request",
            False,
            True,
        )

    def test_a_file_that_cannot_be_read(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Is said before anything is asked."""
        (tmp_path / "binary").write_bytes(b"A=\xff")
        (tmp_path / "large").write_bytes(b"#" * (1024 * 1024 + 1))
        for name, words in (("none", "cannot be read"), ("binary", "not UTF-8"), ("large", "larger than 1 MiB")):
            printed = setup.run("secrets", "import", str(tmp_path / name), "--namespace", "a", "--json")
            assert (printed.json["code"], words in printed.json["message"]) == ("input", True)
        assert not setup.vault.shown


class TestExport:
    """`secrets export`."""

    def test_what_is_exported_can_be_imported(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Every value comes back as it was."""
        values = {"A_KEY": CANARY, "B_KEY": f"it's \\ {CANARY}", "C_KEY": f"{CANARY}\nsecond line #\n"}
        for key, value in values.items():
            setup.vault.put(f"staging/{key}", value)
        out = tmp_path / "exported.env"
        assert setup.run("secrets", "export", "--namespace", "staging", "--out", str(out)).code == 0
        if sys.platform != "win32":
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert setup.run("secrets", "import", str(out), "--namespace", "copy").code == 0
        assert {key: setup.vault.value(f"copy/{key}") for key in values} == values

    def test_a_pipe_gets_it_on_stdout(self, setup: VaultSetUp) -> None:
        """A path below the namespace becomes a name; JSON keeps it."""
        printed = setup.run("secrets", "export", "--namespace", "production", shows=CANARY)
        assert (printed.out, printed.err) == (
            f"OPENAI_API_KEY={CANARY}\n",
            "authsec (LIVE): 1 secret of production\n",
        )
        printed = setup.run("secrets", "export", "--namespace", "production", "--format", "json", shows=CANARY)
        assert json.loads(printed.out) == {"openai/api-key": CANARY}
        printed = setup.run("secrets", "export", "--namespace", "production", "--format", "shell", shows=CANARY)
        assert printed.out == f"export OPENAI_API_KEY='{CANARY}'\n"
        said = setup.run("secrets", "export", "--namespace", "production", "--json", shows=CANARY).json
        assert (said["names"], said["paths"], said["content"]) == (
            ["OPENAI_API_KEY"],
            [OPENAI],
            f"OPENAI_API_KEY={CANARY}\n",
        )

    @pytest.mark.req("RW5")
    def test_a_terminal_is_shown_nothing_unasked(self, setup: VaultSetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """Values on a screen have to be asked for."""
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        printed = setup.run("secrets", "export", "--namespace", "production")
        assert (printed.code, printed.out, "--reveal" in printed.err) == (1, "", True)
        assert not setup.vault.shown
        assert CANARY in setup.run("secrets", "export", "--namespace", "production", "--reveal", shows=CANARY).out

    def test_a_namespace_with_nothing_in_it(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Is more likely misspelt than meant, so that no empty file is written."""
        out = tmp_path / "exported.env"
        printed = setup.run("secrets", "export", "--namespace", "production-2", "--out", str(out), "--json")
        assert (printed.code, printed.json["code"], out.exists()) == (1, "input", False)

    def test_all_or_nothing(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """A secret that cannot be read leaves no file behind."""
        setup.vault.put("production/tavily/api-key", f"other-{CANARY}")
        setup.vault.failing["/v1/secrets/production/tavily/api-key"] = Reply(status=403, body=b"{}")
        out = tmp_path / "exported.env"
        printed = setup.run("secrets", "export", "--namespace", "production", "--out", str(out), "--json")
        assert (printed.code, printed.json["code"], out.exists()) == (1, "vault_scope_denied", False)


class TestCredentials:
    """Which credential is shown to the vault."""

    def test_a_token_takes_the_place_of_the_key(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """From a file before the environment; the key is then not sent."""
        first, second = (f"vlt_000000000000000{n}.{'s3cr3t' * 8}" for n in (1, 2))
        setup.vault.tokens |= {first: {}, second: {}}
        setup.set(AUTHSEC_VAULT_TOKEN=first)
        (tmp_path / "token").write_text(f"{second}\n")
        setup.run("secrets", "list")
        setup.run("secrets", "list", "--token-file", str(tmp_path / "token"))
        assert [credential for _, _, credential in setup.vault.shown] == [first, second]

    def test_a_token_may_stand_in_the_named_env_file(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Beside the vault's address, where the environment names none."""
        token = f"vlt_0000000000000001.{'s3cr3t' * 8}"
        setup.vault.tokens[token] = {}
        lines = [f"AUTHSEC_VAULT_URL={setup.vault.server.base_url}", f"AUTHSEC_VAULT_TOKEN={token}"]
        (tmp_path / "agent.env").write_text("\n".join(lines))
        setup.set(AUTHSEC_VAULT_URL=None, AUTHSEC_AGENT_KEY=None)
        assert setup.run("secrets", "list", "--env-file", str(tmp_path / "agent.env")).code == 0
        assert setup.vault.shown[-1][2] == token

    @pytest.mark.parametrize("content", ["", "two words", "a\nb", "\x00", "é", "x" * 5000])
    def test_a_file_without_one_token(self, setup: VaultSetUp, tmp_path: Path, content: str) -> None:
        """Is refused before anything is asked, and not quoted."""
        (tmp_path / "token").write_text(content, encoding="utf-8")
        printed = setup.run("secrets", "list", "--token-file", str(tmp_path / "token"), "--json")
        assert (printed.code, printed.json["code"]) == (1, "input")
        assert not content or content not in printed.json["message"]
        assert not setup.vault.shown

    def test_no_setting_at_all(self, setup: VaultSetUp) -> None:
        """Is an error that says what to set; MOCK mode is there for who asks for it, and says so."""
        setup.set(AUTHSEC_VAULT_URL=None, AUTHSEC_AGENT_KEY=None)
        printed = setup.run("secrets", "list", "--json")
        assert (printed.code, printed.json["code"], printed.json["mode"]) == (1, "configuration", None)
        assert "=" not in printed.json["message"]  # which would be words of Python
        setup.set(AUTHSEC_MOCK_SECRETS=json.dumps({"production/a/key": "sk-sample-for-tests"}))
        printed = setup.run("secrets", "list")
        assert "production/a/key" in printed.out
        assert printed.err == "authsec (MOCK): 1 secret\n"

    def test_a_refused_credential(self, setup: VaultSetUp) -> None:
        """Has its code, and is on no stream."""
        setup.set(AUTHSEC_AGENT_KEY=f"{KEY[:-1]}~")
        printed = setup.run("secrets", "list")
        assert (printed.code, printed.out) == (1, "")
        assert printed.err.startswith("authsec (LIVE): vault_unauthorized: ")


class TestRefusals:
    """What to type next, where the vault refuses."""

    TOKEN = f"vlt_0000000000000001.{'s3cr3t' * 8}"

    def test_a_secret_that_wants_an_approval(self, setup: VaultSetUp) -> None:
        """The command that asks for the token and waits, what approves it, and how it is then used."""
        refused = Reply.of_json({"error": {"code": "APPROVAL_REQUIRED", "message": "no"}}, status=403)
        setup.vault.failing[f"/v1/secrets/{OPENAI}"] = refused
        for argv, action in ((("get", OPENAI, "--reveal"), "read"), (("delete", OPENAI, "--yes"), "delete")):
            said = setup.run("secrets", *argv, "--json").json
            assert said["code"] == "approval_required"
            asks = f"authsec tokens issue --scope secrets:{action}:{OPENAI} --wait 1h --out FILE"
            assert all(words in said["message"] for words in (asks, "admin approvals approve", "--token-file FILE"))

    def test_a_token_without_the_scope(self, setup: VaultSetUp) -> None:
        """Has one with it; with the agent's own key no token would help."""
        setup.vault.tokens[self.TOKEN] = {}
        setup.vault.failing[f"/v1/secrets/{OPENAI}"] = Reply(status=403)
        typed = f"authsec tokens issue --scope secrets:read:{OPENAI} --out FILE"
        assert typed not in setup.run("secrets", "get", OPENAI, "--reveal", "--json").json["message"]
        setup.set(AUTHSEC_VAULT_TOKEN=self.TOKEN)
        assert typed in setup.run("secrets", "get", OPENAI, "--reveal", "--json").json["message"]

    def test_a_denied_look_is_about_the_secret(self, setup: VaultSetUp) -> None:
        """And not about the list that stands behind it."""
        setup.vault.failing["/v1/secrets"] = Reply(status=403)
        message = setup.run("secrets", "get", OPENAI, "--json").json["message"]
        assert message.startswith(f"{OPENAI}: ")
        assert f"secrets:read:{OPENAI}:" in message
