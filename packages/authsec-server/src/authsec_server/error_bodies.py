"""The bodies of errors, in the four shapes that clients know. Which error takes which is for `problems`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = ["FieldProblem", "OAuthError", "Problem", "SdkError", "VaultError", "VaultErrorBody"]


class FieldProblem(BaseModel):
    """What is wrong with one member of a request."""

    field: str
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | None = None
    errors: list[FieldProblem] | None = None


class SdkError(BaseModel):
    """An error at the endpoint that agents call."""

    error: str
    details: str | None = None


class OAuthError(BaseModel):
    """An error of the OAuth endpoints, as RFC 6749 section 5.2 has it."""

    error: str
    error_description: str | None = None


class VaultErrorBody(BaseModel):
    """What went wrong: for programs, and for people."""

    code: str
    message: str


class VaultError(BaseModel):
    """An error of the vault, in the shape that vault clients for agents know."""

    error: VaultErrorBody
