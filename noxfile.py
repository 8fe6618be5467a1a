# /// script
# requires-python = ">=3.10"
# dependencies = ["nox[uv]>=2025.11.12"]
# ///
"""Every command of developers and CI: `python3 noxfile.py -s <session>`, or `nox -s <session>`; `-l` lists them.

Run as a script it needs CPython 3.10 or later and nothing else: it puts nox and uv into `.nox/` when they are missing.
Sessions work on the built packages, never on the sources.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import getpass
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
_STARTED_AGAIN = "AUTHSEC_NOXFILE_STARTED_AGAIN"

os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # uv ignores pip's certificate settings; trust what the machine trusts
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")


def _provide_nox() -> NoReturn:
    """Make an environment with this script's dependencies, unless it is there already, and start again inside it."""
    if sys.version_info < (3, 10):
        sys.exit(f"authsec needs CPython 3.10 or later; {sys.executable} is {sys.version.split()[0]}")
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python3.{sys.version_info[1]}-venv"
        sys.exit(f"{sys.executable} has no ensurepip, so it cannot make environments. On Debian: apt install {package}")
    if _STARTED_AGAIN in os.environ:
        sys.exit("nox is still missing after it was installed. Delete the folder .nox and try again.")
    block = re.search(r"^# dependencies = \[(.*)\]$", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    requirements = re.findall(r'"([^"]+)"', block[1]) if block else []
    # One environment per interpreter: the sessions without a Python of their own use the one that was given.
    wanted = "\n".join([sys.version, os.path.realpath(sys.executable), *requirements])
    home = ROOT / ".nox" / f"bootstrap-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = home / "ready"
    if not ready.exists():
        print(f"Putting nox and uv into {home.relative_to(ROOT)} ...", file=sys.stderr)
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=os.name != "nt").create(home)
        if subprocess.call([str(python), "-m", "pip", "install", "--quiet", *requirements]) != 0:
            sys.exit("pip could not install nox and uv: its message is above. The next run tries again.")
        ready.touch()
    environment = {**os.environ, _STARTED_AGAIN: "1"}
    command = [str(python), *sys.argv]
    if os.name == "nt":  # there, exec returns to the shell at once
        sys.exit(subprocess.call(command, env=environment))
    os.execve(python, command, environment)


try:
    import nox
except ImportError:
    _provide_nox()
os.environ.pop(_STARTED_AGAIN, None)

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_UNTIL_312 = ("3.12", "3.11", "3.10")
PACKAGES = ("authsec-core", "authsec-autogen", "authsec-crewai", "authsec-fastapi", "authsec-server")

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True  # a Python that is missing is a failure, not a skip
nox.options.sessions = ["lint", "types", "tests"]


def _append_pyenv_to_path() -> None:
    """Let nox find pyenv's interpreters, also where HOME is an empty folder and pyenv belongs to the real one."""
    roots = [os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")]
    with contextlib.suppress(KeyError, OSError, ImportError):  # a user without an entry in the password file
        roots.append(os.path.expanduser(f"~{getpass.getuser()}/.pyenv"))
    folders = [
        str(found) for root in dict.fromkeys(filter(None, roots)) for found in Path(root).glob("versions/3.*/bin")
    ]
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *sorted(folders)])


_append_pyenv_to_path()
_GIVEN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def _one_of(*versions: str) -> str | None:
    """Return None, which is the Python that was given, if it will do; else the first version that is found."""
    if _GIVEN in versions:
        return None
    return next((version for version in versions if shutil.which(f"python{version}")), versions[0])


def _build(session: nox.Session) -> Path:
    """Return the folder with this tree's sdists and wheels; they are built once for each content of the sources."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / "packages" / package).rglob("*")):
            if path.is_file() and not {"tests", "__pycache__", ".mypy_cache"} & set(path.relative_to(ROOT).parts):
                digest.update(f"{path.relative_to(ROOT).as_posix()}\n{path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
    built = ROOT / ".nox" / "built" / digest.hexdigest()[:16]
    if not built.exists():
        fresh = Path(tempfile.mkdtemp(prefix="building-", dir=session.cache_dir))
        for package in PACKAGES:
            session.run_install(
                "uv", "build", "--quiet", "--python", sys.executable, "--out-dir", str(fresh), f"packages/{package}"
            )
        built.parent.mkdir(exist_ok=True)
        fresh.rename(built)
    return built


def _install(session: nox.Session, *packages: str, groups: Sequence[str] = (), also: Sequence[str] = ()) -> None:
    """Install packages of this tree from their wheels, groups of developer tools, and other requirements.

    The wheels are named by file: on a public index some of their names belong to others.
    """
    built = _build(session)
    requirements = []
    for package in packages:
        stem = package.partition("[")[0].replace("-", "_")
        requirements.append(f"{package} @ {next(built.glob(f'{stem}-*.whl')).as_uri()}")
    session.install(*requirements, *also, *(f"--group={group}" for group in groups))


def _private(session: nox.Session) -> dict[str, str | None]:
    """Return an environment in which programs write only below the session's folder, and nothing phones home."""
    home = Path(session.create_tmp()) / "home"
    home.mkdir(exist_ok=True)
    return {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "CREWAI_STORAGE_DIR": str(home / "crewai"),
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # CrewAI before 1.0 would fetch a price list
        "OTEL_SDK_DISABLED": "true",
        "COVERAGE_FILE": str(home / "coverage"),
        "TMPDIR": os.environ.get("TMPDIR"),  # pytest's folders below the repository would inherit its conftest.py
        "PYTHONPATH": None,  # else the sources could take the place of the wheels
    }


def _autogen(session: nox.Session, *extras: str) -> str:
    """Return the AutoGen adapter with the `autogen` that this session's Python can have, and with other lineages."""
    classic = str(session.python or _GIVEN) in _UNTIL_312
    return f"authsec-autogen[{','.join(['classic' if classic else 'ag2-legacy', *extras])}]"


@nox.session(python=_one_of("3.12", "3.11", "3.13", "3.10"))
def demo(session: nox.Session) -> None:
    """Run the demo: AutoGen and CrewAI, MOCK and LIVE, a refusal and a revocation. `-- --postgres`, `-- --json`."""
    _install(session, "authsec-core", _autogen(session), "authsec-crewai", "authsec-server[testing]")
    session.run("python", "examples/demo.py", *session.posargs, env=_private(session), stderr=None)


# Made anew, the environment would be taken from under a gateway that is running, and would need the network each time.
@nox.session(python=_one_of("3.12", "3.11", "3.13", "3.10"), reuse_venv=True)
def gateway(session: nox.Session) -> None:
    """Serve the agent gateway on 127.0.0.1, with three callers to try it as. `-- --port 8000`, `-- --check`."""
    _install_gateway(session)
    environment = {**_private(session), "PYTHONPATH": str(ROOT / "examples")}
    session.run("python", "-m", "agent_gateway", *session.posargs, env=environment)


@nox.session(python=_one_of("3.12", "3.11", "3.13", "3.10"))
def browser(session: nox.Session) -> None:
    """Try the agent gateway's page in headless Chromium, which has to be installed."""
    _install_gateway(session, groups=["test", "browser"])
    environment = {**_private(session), "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"}
    session.run("pytest", "tests/browser", *session.posargs, env=environment)


def _install_gateway(session: nox.Session, groups: Sequence[str] = ()) -> None:
    packages = ["authsec-core", "authsec-fastapi", "authsec-server[testing]"]
    _install(session, *packages, groups=groups, also=["autogen-agentchat>=0.7,<0.8", "autogen-ext[openai]>=0.7,<0.8"])


_PACKAGES_TESTS = [f"packages/{package}/tests" for package in PACKAGES]
_ELSEWHERE = ["--ignore=tests/examples", "--ignore=tests/browser"]  # what needs a framework, or a browser
# Neighbours share a server: each process has one half of the list, and when it is done takes from the end of the other.
# Property tests ask the same each time: no change is judged by what it did not touch. Plain `pytest` explores.
_IN_TWO = ["-n", "2", "--dist", "worksteal", "--hypothesis-seed", "0"]
# Coverage, the hundreds of `kill -9`, requests that are made up, several servers, the second database, and what is
# asked of files: pages, manifests, the sources themselves.
_WITHOUT_WHAT_TAKES_LONG = [
    "--ignore=packages/authsec-server/tests/crash",
    "-k",
    "not (postgres or replicas or fuzzing or outages or rolling or workers)",
]


def _install_without_framework(session: nox.Session) -> None:
    packages = ["authsec-core[cli,otel]", "authsec-autogen", "authsec-fastapi[otel]", "authsec-server[testing]"]
    _install(session, *packages, groups=["test", "server"])
    session.install("--no-deps", next(_build(session).glob("authsec_crewai-*.whl")).as_uri())


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that need no agent framework, on the built wheels, with branch coverage, with the Python given."""
    _install_without_framework(session)
    session.install(*nox.project.load_toml("noxfile.py")["dependencies"])  # for what is asked of this file itself
    environment = _private(session)
    session.run("coverage", "erase", env=environment)
    arguments = [*_PACKAGES_TESTS, "tests", *_ELSEWHERE, *session.posargs]
    session.run("coverage", "run", "-m", "pytest", *_IN_TWO, *arguments, env=environment)
    session.run("coverage", "combine", "--quiet", env=environment)
    session.run("coverage", "report", env=environment)


def _tests_beside(session: nox.Session) -> None:
    """Run the same tests with this Python, but for what takes long and asks nothing that a Python could change."""
    _install_without_framework(session)
    arguments = [*_PACKAGES_TESTS, "tests/test_authority_contract.py", *_WITHOUT_WHAT_TAKES_LONG, *session.posargs]
    session.run("pytest", *_IN_TWO, *arguments, env=_private(session))


for _version in PYTHONS:
    nox.session(name=f"tests-{_version}", python=_version)(_tests_beside)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One version of a framework.

    Attributes:
        tests: The adapter or the guard, and the folder of its tests that need this framework.
        requirements: What to install beside the wheels.
        pythons: Those that the framework supports; where one will do, the first that is found.
        selected: Whether it runs without `--full`: the oldest and the newest of each lineage do.
    """

    tests: str
    requirements: str
    pythons: tuple[str, ...] = ("3.12", "3.13", "3.11", "3.10")
    selected: bool = True


CELLS = {
    "pyautogen-0.2.30": Cell("autogen/classic", "pyautogen==0.2.30", _UNTIL_312),
    "pyautogen-0.2.35": Cell("autogen/classic", "pyautogen==0.2.35", _UNTIL_312),
    "autogen-agentchat-0.2.40": Cell("autogen/classic", "autogen-agentchat==0.2.40", _UNTIL_312),
    "ag2-0.9": Cell("autogen/classic", "ag2[openai]==0.9.*"),
    "ag2-0.14": Cell("autogen/classic", "ag2[openai]==0.14.*"),
    "agentchat-0.4": Cell("autogen/agentchat", "autogen-agentchat==0.4.9.3 autogen-ext[openai]==0.4.9.3"),
    "agentchat-0.7": Cell("autogen/agentchat", "autogen-agentchat==0.7.5 autogen-ext[openai]==0.7.5"),
    "ag2-1.0": Cell("autogen/ag2", "ag2[openai]==1.0.0"),
    "ag2-1.2": Cell("autogen/ag2", "ag2[openai]==1.2.1"),
    "agent-framework-1.0": Cell("autogen/agent_framework", "agent-framework-core==1.0.0 agent-framework-openai==1.0.0"),
    "agent-framework-1.23": Cell("autogen/agent_framework", "agent-framework-core==1.23.0 agent-framework-openai"),
    "guard-pyautogen-0.2.30": Cell("fastapi/classic", "pyautogen==0.2.30", _UNTIL_312),
    "guard-pyautogen-0.2.35": Cell("fastapi/classic", "pyautogen==0.2.35", _UNTIL_312, selected=False),
    "guard-autogen-agentchat-0.2.40": Cell("fastapi/classic", "autogen-agentchat==0.2.40", _UNTIL_312),
    "guard-ag2-0.9": Cell("fastapi/classic", "ag2[openai]==0.9.*"),
    "guard-ag2-0.14": Cell("fastapi/classic", "ag2[openai]==0.14.*"),
    "guard-agentchat-0.4": Cell("fastapi/agentchat", "autogen-agentchat==0.4.9.3 autogen-ext[openai]==0.4.9.3"),
    "guard-agentchat-0.7": Cell("fastapi/agentchat", "autogen-agentchat==0.7.5 autogen-ext[openai]==0.7.5"),
    "guard-crewai-0.102": Cell("fastapi/crew", "crewai==0.102.0", _UNTIL_312),
    "guard-crewai-1.9": Cell("fastapi/crew", "crewai==1.9.3", _UNTIL_312, selected=False),
    "guard-crewai-1.15": Cell("fastapi/crew", "crewai==1.15.30"),
    "crewai-0.102": Cell("crewai/crew", "crewai==0.102.0", _UNTIL_312),
    "crewai-0.140": Cell("crewai/crew", "crewai==0.140.0", _UNTIL_312, selected=False),
    "crewai-1.0": Cell("crewai/crew", "crewai==1.0.0", _UNTIL_312, selected=False),
    "crewai-1.9": Cell("crewai/crew", "crewai==1.9.3", _UNTIL_312, selected=False),
    "crewai-1.15": Cell("crewai/crew", "crewai==1.15.30"),
}


def _cells() -> Iterator[object]:
    """Yield the selection, on one Python each, or with `-- --full` every cell on every Python that it supports."""
    for name, cell in CELLS.items():
        if "--full" in sys.argv:  # nox makes the list of sessions before it hands over what follows `--`
            for version in sorted(cell.pythons):
                yield nox.param(version, cell, id=f"{name}, {version}")
        elif cell.selected:
            yield nox.param(_one_of(*cell.pythons), cell, id=name)


@nox.session
@nox.parametrize("python,cell", list(_cells()))
def adapters(session: nox.Session, cell: Cell) -> None:
    """Run the tests of an adapter or of the guard against one version of a framework; `-- --full`: each cell."""
    package, _, folder = cell.tests.partition("/")
    tests = ROOT / "packages" / f"authsec-{package}" / "tests"
    _install(session, "authsec-core", f"authsec-{package}", groups=["test"], also=cell.requirements.split())
    arguments = [argument for argument in session.posargs if argument != "--full"]
    # The guard's other tests need no framework, but a server: they are in `tests`.
    beside = () if package == "fastapi" else sorted(tests.glob("test_*.py"))
    files = map(str, [*beside, tests / folder])
    session.run("pytest", *_IN_TWO, *files, "--no-skipped-modules", *arguments, env=_private(session))


@nox.session(python=_one_of("3.12", "3.11", "3.13", "3.10"))
@nox.parametrize("ag2", [nox.param(False, id="most"), nox.param(True, id="ag2")])
def examples(session: nox.Session, ag2: bool) -> None:
    """Run the tests of the examples and of the documentation; ag2 alone, which needs another openai than CrewAI."""
    if ag2:
        _install(session, "authsec-core", "authsec-autogen[ag2]", groups=["test"], also=["ag2[openai]>=1,<2"])
    else:
        adapter = _autogen(session, "agentchat", "agent-framework")
        others = ["autogen-ext[openai]>=0.4.9,<0.8", "agent-framework-openai", "authlib>=1.6"]
        packages = ["authsec-core[cli,otel]", adapter, "authsec-crewai", "authsec-fastapi", "authsec-server[testing]"]
        _install(session, *packages, groups=["test"], also=others)
    chosen = ["-k", "ag2_agent or (test_docs and ag2)" if ag2 else "not ag2_agent"]
    session.run("pytest", "tests/examples", *chosen, *session.posargs, env=_private(session))


@nox.session(python=_one_of("3.12", "3.11", "3.13"))
def docs(session: nox.Session) -> None:
    """Build the docs site into site/; a warning is a failure."""
    session.install("--group=docs")
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # its makers' notice that they will end it
    session.run("mkdocs", "build", "--strict", *session.posargs, env=quiet)


@nox.session(python=_one_of("3.11", "3.12", "3.10"))
def bench(session: nox.Session) -> None:
    """Measure P1-P9 and growth beside others; write tables and plot for the docs. `-- --json` for programs."""
    session.install("uv")
    folder = ["--wheels", str(_build(session)), "--folder", str(Path(session.create_tmp()).resolve() / "bench")]
    session.run("python", "-m", "benchmarks", *folder, *session.posargs, stderr=None)


@nox.session(python=_one_of("3.12", "3.11", "3.10"))
def types(session: nox.Session) -> None:
    """Check all code with mypy, and with pyright that the public names of the wheels are fully typed."""
    adapter, models = (
        _autogen(session, "agentchat", "agent-framework"),
        ["autogen-ext[openai]", "agent-framework-openai"],
    )
    packages = ["authsec-core", adapter, "authsec-crewai", "authsec-fastapi", "authsec-server[testing]"]
    _install(session, *packages, groups=["test", "types", "browser"], also=[*models, "ag2>=1,<2"])
    session.run("mypy")
    for folder in sorted({*ROOT.glob("packages/*/tests"), ROOT / "tests"}):
        session.run("mypy", str(folder), env={"MYPYPATH": os.pathsep.join([str(folder), str(folder / "shared")])})
    session.run("mypy", "typing_tests")
    session.run("pyright", "-p", "typing_tests")
    for package in PACKAGES:
        if package != "authsec-server":  # a program, whose modules are nobody's API
            session.run("pyright", "--ignoreexternal", "--verifytypes", package.replace("-", "_"))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, rules and spelling."""
    session.install("--group=lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("codespell")


@nox.session(python=_one_of("3.12", "3.11", "3.10"))
def readme(session: nox.Session) -> None:
    """Run the README's shell commands as they stand there, but for the noxfile's own, which `.ci/run` has."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    script = "".join(re.sub(r"^python3 noxfile\.py .*\n", "", block, flags=re.MULTILINE) for block in blocks)
    folder = Path(session.create_tmp()) / "newcomer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copytree(_build(session), folder / "dist")
    with session.chdir(folder):
        session.run("bash", "-euxo", "pipefail", "-c", script, external=True, env=_private(session))


@nox.session
def build(session: nox.Session) -> None:
    """Put sdists and wheels into dist/ and check them."""
    session.install("--group=build")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    files = [shutil.copy(path, dist) for path in sorted(_build(session).glob("authsec*"))]
    session.run("twine", "check", "--strict", *map(str, files))
    wheels = sorted(dist.glob("*.whl"))
    if len({wheel.name.split("-")[1] for wheel in wheels}) != 1 or len(wheels) != len(PACKAGES):
        session.error(f"expected one wheel of one version for each package: {[wheel.name for wheel in wheels]}")
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        for needed in ("/py.typed", "/licenses/LICENSE"):
            if not any(name.endswith(needed) for name in names):
                session.error(f"{wheel.name} has no {needed}")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests of the core, the guard and the server with the oldest dependencies that their metadata allows."""
    core = f"authsec-core @ {next(_build(session).glob('authsec_core-*.whl')).as_uri()}"
    packages = ["authsec-core", "authsec-fastapi", "authsec-server"]
    requirements = [part for package in packages for part in ("-r", f"packages/{package}/pyproject.toml")]
    session.install("--resolution=lowest-direct", *requirements, "--all-extras", core)
    # Later ones need a later cryptography than our oldest.
    _install(session, *packages, groups=["test", "server"], also=["spiffe<0.2.1"])
    session.run("uv", "pip", "list")
    folders = [f"packages/{package}/tests" for package in packages]
    session.run("pytest", *_IN_TWO, *folders, *_WITHOUT_WHAT_TAKES_LONG, env=_private(session))
    server = ROOT / "packages" / "authsec-server" / "tests"
    files = [*sorted(server.glob("test_db*.py")), server / "test_ledger.py", server / "behaviour" / "test_races.py"]
    session.run("pytest", *_IN_TWO, *map(str, files), "-k", "postgres", env=_private(session))


def _hints(arguments: Sequence[str]) -> list[str]:
    """Return what to say of sessions that there are not: nox itself says no more than that."""
    from nox import registry

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-s", "-e", "--session", "--sessions", nargs="*", default=[], dest="sessions")
    own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    known = list(registry.get())
    hints = []
    for name in parser.parse_known_args(own)[0].sessions:
        bare = re.sub(r"(-\d[\d.]*)?(\(.*\))?$", "", name)  # without a Python and parameters, which nox adds
        if bare not in known:
            near = difflib.get_close_matches(bare, known, n=1)
            mend = f"did you mean {near[0]}?" if near else "-l lists them."
            hints.append(f"There is no session {name}: {mend}")
    return hints


if __name__ == "__main__":
    for _hint in _hints(sys.argv[1:]):
        print(_hint, file=sys.stderr)
    nox.main()
