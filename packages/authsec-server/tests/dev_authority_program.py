"""A program that runs `DevAuthority` and does not end it, for `test_testing_process`: it says which, and waits."""

from __future__ import annotations

import json
import sys

from authsec_server.testing import DevAuthority


def main() -> None:
    """Start, say what runs, and wait for the end of stdin."""
    authority = DevAuthority().start()
    sys.stdout.write(json.dumps({"pid": authority.pid, "folder": str(authority.data_dir.parent)}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
