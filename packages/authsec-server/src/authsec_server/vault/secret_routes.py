"""The secrets of the vault over HTTP: what is sent, what is answered. It decides nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from authsec_core.vault_scopes import LONGEST_PATH, check_namespace, check_path, split_path
from authsec_core.wire import format_time
from authsec_server import deps, shapes
from authsec_server.errors import InvalidRequestError
from authsec_server.problems import vault_responses
from authsec_server.vault.asking import Asker
from authsec_server.vault.requests import Asks, VaultRoute, asking, secret_path
from authsec_server.vault.secret_shapes import (
    EnvFile,
    ImportReply,
    NewSecret,
    NewValue,
    RotatedSecret,
    SecretList,
    SecretReply,
    WrittenSecret,
)
from authsec_server.vault.values import Listing, Secret, Wanted

__all__ = ["AT_A_PATH", "get", "reading", "router"]

AT_A_PATH: Final = "/v1/secrets/{path:path}"
_NO_STORE: Final = {"Cache-Control": "no-store"}
_ROTATE: Final = "/rotate"
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")

router = APIRouter(tags=["vault"], route_class=VaultRoute)
reading = APIRouter(tags=["vault"])  # its handler does by itself what a `VaultRoute` does: see `direct`


def _takes(*query: tuple[str, str, dict[str, Any]], path: bool = True) -> dict[str, Any]:
    """Describe parameters: FastAPI would read them by itself, and promise a 422."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
        for name, description, schema in query
    ]
    parameters += [
        {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}
        for name, description in (
            ("X-Agent-Name", "What the agent calls itself. For the audit, as a claim."),
            ("X-Access-Reason", "Why it asks. For the audit, as a claim."),
            ("X-Conversation-ID", "What it belongs to. For the audit, as a claim."),
        )
    ]
    if path:
        described = "Namespace and key, with slashes between them; those of the namespace may be percent-encoded."
        schema = {"type": "string", "maxLength": LONGEST_PATH, "examples": ["production/openai/api-key"]}
        parameters.append({"name": "path", "in": "path", "required": True, "description": described, "schema": schema})
    return {"parameters": parameters}


_AFTER: Final = ("after", "The `next` of the page before.", {"type": "string"})


@router.get(
    "/v1/secrets",
    operation_id="secret_list",
    summary="List what one may see",
    response_model=SecretList,
    responses=vault_responses(403, 410),
    openapi_extra=_takes(
        ("namespace", "Only what lies below it; by default everything.", {"type": "string"}), _AFTER, path=False
    ),
)
async def list_all(request: Request, asker: Asks) -> Response:
    """Return what lies below a namespace, without values."""
    query = _query(request, "namespace", "after")
    namespace, after = _namespace(query, "namespace"), _namespace(query, "after")
    return _listed(await deps.authority(request).secrets.list(asker, namespace, after=after))


@reading.get(
    AT_A_PATH,
    operation_id="secret_get",
    summary="Read a secret, or list a namespace",
    response_model=SecretReply | SecretList,
    responses=vault_responses(403, 404, 410),
    openapi_extra={
        **_takes(("version", "Not the latest, but this one.", {"type": "integer", "minimum": 1}), _AFTER),
        "security": [{"vault": []}],  # the others say it by asking for `Asks`
    },
)
async def get(request: Request) -> Response:
    """Return a secret, or what lies below a namespace. One segment is always a namespace."""
    return await asking(request, _found)


async def _found(request: Request, asker: Asker) -> Response:
    path, is_one = secret_path(request)
    query = _query(request, "version", "after")
    version, after = _version(query), _namespace(query, "after")
    vault = deps.authority(request).secrets
    if not is_one and not after:
        found = await vault.read(asker, path, version=version)
    elif version is None:
        found = await vault.list(asker, path, after=after)
    else:
        raise InvalidRequestError("a namespace has no versions", field="version")
    return _listed(found) if isinstance(found, Listing) else _shown(found)


@router.put(
    AT_A_PATH,
    operation_id="secret_put",
    summary="Write a secret",
    response_model=WrittenSecret,
    responses=vault_responses(403, 409, 410),
    openapi_extra=_takes(),
)
async def put(request: Request, asker: Asks, body: NewSecret) -> Response:
    """Write a new version of a secret, or the first one."""
    wanted = Wanted(
        value=body.value, secret_type=body.secret_type, access_tier=body.access_tier, metadata=body.metadata
    )
    return _reply(
        WrittenSecret.model_validate(await deps.authority(request).secrets.write(asker, _path(request), wanted))
    )


@router.delete(
    AT_A_PATH,
    operation_id="secret_delete",
    summary="Delete a secret",
    status_code=204,
    response_class=Response,
    responses=vault_responses(403, 404, 410),
    openapi_extra=_takes(),
)
async def delete(request: Request, asker: Asks) -> Response:
    """Delete a secret with all of its versions."""
    await deps.authority(request).secrets.delete(asker, _path(request))
    return Response(status_code=204, headers=_NO_STORE)


@router.post(
    f"{AT_A_PATH}{_ROTATE}",
    operation_id="secret_rotate",
    summary="Give a secret another value",
    response_model=RotatedSecret,
    responses=vault_responses(403, 404, 409, 410),
    openapi_extra=_takes(),
)
async def rotate(request: Request, asker: Asks, body: NewValue | None = None) -> Response:
    """Write a new version of a secret that is there, by default with a random value, and return it."""
    path = _path(request, before=_ROTATE)
    made = await deps.authority(request).secrets.rotate(asker, path, None if body is None else body.value)
    written = dict(WrittenSecret.model_validate(made.info))
    return _reply(RotatedSecret(**written, value=made.value))


@router.post(
    "/v1/secrets/import",
    operation_id="secret_import",
    summary="Write a secret for each name of a .env text",
    response_model=ImportReply,
    responses=vault_responses(403, 409, 410),
    openapi_extra=_takes(path=False),
)
async def import_env(request: Request, asker: Asks, body: EnvFile) -> Response:
    """Write all of them, or none: then the error says which lines could not be read."""
    like = Wanted(value="", secret_type=body.secret_type, access_tier=body.access_tier, metadata=body.metadata)
    namespace = _checked(check_namespace, body.namespace, "namespace")
    done = await deps.authority(request).secrets.import_env(asker, namespace, body.content, like)
    keys = list(done.keys)
    return _reply(
        ImportReply(namespace=namespace, imported=keys, imported_count=len(keys), skipped=done.skipped, keys=keys)
    )


def _path(request: Request, *, before: str = "") -> str:
    return _checked(check_path, secret_path(request, before=before)[0], "path")


def _checked(check: Callable[[str], str], text: str, field: str) -> str:
    try:
        return check(text)
    except ValueError as exc:
        raise InvalidRequestError(str(exc), field=field) from None


def _query(request: Request, *names: str) -> dict[str, str]:
    given = [(name, text) for name, text in deps.query(request) if name in names]
    if len(dict(given)) < len(given):
        raise InvalidRequestError(f"give each of {', '.join(names)} once at most")
    return dict(given)


def _namespace(query: Mapping[str, str], name: str) -> str:
    return _checked(check_namespace, query[name], name) if query.get(name) else ""


def _version(query: Mapping[str, str]) -> int | None:
    text = query.get("version")
    if text is not None and not _VERSION.fullmatch(text):
        raise InvalidRequestError("a version is a whole number from 1", field="version")
    return None if text is None else int(text)


def _shown(secret: Secret) -> Response:
    # By hand, for this is what agents wait for: a model takes longer than the decision.
    info = secret.info
    namespace, key = split_path(info.path)
    text = _encode(
        {
            "namespace": namespace,
            "key": key,
            "path": info.path,
            "value": secret.value,
            "secret_type": info.secret_type,
            "access_tier": info.access_tier,
            "metadata": info.metadata,
            "version": info.version,
            "created_at": format_time(info.created_at),
            "updated_at": format_time(info.updated_at),
        }
    )
    return Response(text, media_type="application/json", headers=_NO_STORE)


def _listed(listing: Listing) -> Response:
    return _reply(SecretList.model_validate(listing))


def _reply(shown: shapes.Reply) -> Response:
    return Response(shown.model_dump_json(), media_type="application/json", headers=_NO_STORE)
