"""Are an adapter's files its own? Another maker's packages have the same names on the public index, and fail open.

Installed over or under ours they leave a mixture, in which the wrong `AuthSecClient` may be the one that is imported.
Called while an adapter is imported: it looks for one file and loads nothing.
"""

from __future__ import annotations

import os
import sys

from authsec_core.errors import ConfigurationError

__all__ = ["refuse_foreign_files"]

_FOREIGN = "authsec_helper.py"  # in every release of theirs, in none of ours


def refuse_foreign_files(package: str, distribution: str) -> None:
    """Refuse to go on where the other maker's files lie among those of `package`, which is being imported.

    Args:
        package: The import name.
        distribution: The name that both makers' wheels have.

    Raises:
        ConfigurationError: They do; the message says how to mend it.
    """
    for folder in sys.modules[package].__path__:
        if os.path.exists(os.path.join(folder, _FOREIGN)):
            raise ConfigurationError(
                f"{folder} has files of another maker's package {distribution}, which makes up tokens and data when "
                f"its server fails: run 'pip uninstall {distribution}' until it finds nothing, then install our wheel "
                "again"
            )
