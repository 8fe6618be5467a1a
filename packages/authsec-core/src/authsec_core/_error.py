"""What each error of authsec can do: be known by its code, be raised again, be pickled and be copied.

Which errors there are is in `errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

__all__ = ["AuthSecError"]


class AuthSecError(Exception):
    """The root of the tree: catch it to catch everything that authsec raises on purpose.

    Attributes:
        code: A stable snake_case name for programs; it never changes between releases.
        retryable: Whether the same call can succeed later with nothing mended.
    """

    __module__ = "authsec_core.errors"  # where users import it from: tracebacks and pickles name it
    code: ClassVar[str] = "authsec_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def again(self) -> AuthSecError:
        """Return an equal error with the same cause and no traceback, so that each waiter can raise its own."""
        twin = _remake(type(self), self.args, self.__dict__)
        twin.__cause__ = self.__cause__
        return twin

    def __reduce__(self) -> tuple[Callable[..., AuthSecError], tuple[object, ...]]:
        # BaseException's own calls the class with `args` alone, which those with keyword-only arguments refuse.
        return _remake, (type(self), self.args, self.__dict__)


def _remake(kind: type[AuthSecError], args: tuple[object, ...], attributes: dict[str, object]) -> AuthSecError:
    twin = kind.__new__(kind)
    twin.args = args
    twin.__dict__.update(attributes)
    return twin
