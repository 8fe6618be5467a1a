"""`python -m authsec_server` is the `authsec-server` command, for where scripts are not on the path."""

from __future__ import annotations

from authsec_server.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main())
