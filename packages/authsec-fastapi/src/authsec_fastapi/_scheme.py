"""What an application's OpenAPI says of its guard. It decides nothing."""

from __future__ import annotations

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

__all__ = ["BearerScheme"]


class BearerScheme(SecurityBase):
    """The security scheme, as a dependency that does nothing: FastAPI finds it by its type."""

    def __init__(self, *, name: str, description: str) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description=description)
        self.scheme_name = name

    async def __call__(self, connection: HTTPConnection) -> None:
        """Leave it to the guard's own dependency to look at the request."""
