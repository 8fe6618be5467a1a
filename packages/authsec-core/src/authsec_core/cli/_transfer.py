"""`authsec secrets import|export`: from a `.env` file into the vault, and out of it for programs that read files.

Either does all of it or nothing.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from authsec_core.cli._env_text import environment_names, export_text
from authsec_core.cli._outcome import InputError, Outcome, Shown
from authsec_core.cli._secrets import claims, kept
from authsec_core.cli._session import Session, counted
from authsec_core.cli._streams import read_file, require_absent, stdout_is_terminal, write_new
from authsec_core.cli._vault_arguments import SecretsArguments
from authsec_core.token import Secret

__all__ = ["export_secrets", "import_secrets"]


def import_secrets(session: Session, arguments: SecretsArguments) -> Outcome:
    """Store what a `.env` file holds."""
    text = read_file(arguments.source)
    session.notify("Storing what the file holds")
    imported = session.vault.import_env(arguments.namespace or "", text(), **kept(arguments), **session.using)
    message = f"{counted(len(imported.keys), 'secret')} stored in {imported.namespace}"
    if imported.skipped:
        message += f", {counted(imported.skipped, 'name')} without a value left out"
    document: dict[str, Any] = {
        "namespace": imported.namespace,
        "names": list(imported.keys),
        "skipped": imported.skipped,
    }
    if str(arguments.source) != "-":
        document["next"] = _removal(arguments.source)
        message += f"; now delete the file: {document['next']}"
    return session.done("names", message, document)


def export_secrets(session: Session, arguments: SecretsArguments) -> Outcome:
    """Read every value in a namespace and write them down together."""
    require_absent(arguments.out)
    if arguments.out is None and not arguments.reveal and stdout_is_terminal():
        raise InputError("the values would be shown here: say --out FILE, or --reveal if you mean it")
    namespace = arguments.namespace or ""
    session.notify("Asking what there is")
    paths = [info.path for info in session.vault.list_secrets(namespace, **session.using)]
    if not paths:
        raise InputError(f"nothing lies in {namespace} that may be read here: authsec secrets list shows what there is")
    keys = {path: path.removeprefix(f"{namespace}/") for path in paths}
    names = {key: key for key in keys.values()} if arguments.form == "json" else environment_names(keys.values())
    content = Secret(
        export_text(arguments.form, _values(session, arguments, {path: names[keys[path]] for path in paths}))
    )
    document = {
        "namespace": namespace,
        "format": arguments.form,
        "names": [names[keys[path]] for path in paths],
        "paths": paths,
    }
    message = f"{counted(len(paths), 'secret')} of {namespace}"
    if arguments.out is None:
        return session.done("names", message, document, shown=Shown(member="content", value=content))
    write_new(arguments.out, content)
    return session.done("names", f"{message}, in {arguments.out}", {**document, "out": str(arguments.out)})


def _values(session: Session, arguments: SecretsArguments, names: dict[str, str]) -> dict[str, str]:
    told = claims(arguments, "authsec secrets export")
    values = {}
    for number, (path, name) in enumerate(names.items(), start=1):
        session.notify(f"Reading {number} of {len(names)}")
        values[name] = session.vault.get_secret(path, metadata=told, **session.using).value
    return values


def _removal(source: Path) -> str:
    return f'del "{source}"' if os.name == "nt" else shlex.join(["rm", str(source)])
