"""The deployment kit in docs/deploy/kit, as its tests read it: files, pages, YAML, and which of it is ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
KIT = DEPLOY / "kit"
PAGES = sorted(DEPLOY.glob("*.md"))
FILES = sorted(path for path in KIT.rglob("*") if path.is_file())
IMAGE: Final = "authsec-server:0.2.0"
URL: Final = "postgresql://authsec:secret@db.example.com/authsec?sslmode=verify-full"


def text_of(path: Path) -> str:
    """Return a file's text."""
    return path.read_text(encoding="utf-8")


def shell_of(page: Path) -> list[str]:
    """Return the lines for a shell that a page has."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def _documents() -> Iterator[tuple[str, Any]]:
    for path in (path for path in FILES if path.suffix == ".yaml"):
        for number, document in enumerate(yaml.safe_load_all(text_of(path))):
            yield f"{path.relative_to(KIT).as_posix()}-{number}", document


def _pods() -> Iterator[tuple[str, Any]]:
    for name, document in DOCUMENTS.items():
        if document.get("kind") in ("Deployment", "Job"):
            yield name, document["spec"]["template"]["spec"]
        elif document.get("kind") == "Pod":
            yield name, document["spec"]


def ours_in(pod: Mapping[str, Any]) -> list[Any]:
    """Return the containers of a pod that run our image."""
    return [each for each in pod["containers"] if each["image"] == IMAGE]


DOCUMENTS = dict(_documents())
COMPOSE = DOCUMENTS["compose.yaml-0"]
SERVICES = {name: service for name, service in COMPOSE["services"].items() if service["image"] == IMAGE}
PODS = dict(_pods())
SERVERS = {name: pod for name, pod in PODS.items() if ours_in(pod)}
SETTINGS: Final[dict[str, str]] = DOCUMENTS["kubernetes/settings.yaml-0"]["data"]
