"""A program that runs PostgreSQL and does not end it, for `test_testing_postgres`: it says which, and waits.

`python postgres_program.py` prints one line of JSON; only the standard library and our own sources are needed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from authsec_server.testing import LocalPostgres


def _children(pid: int) -> list[int]:
    return [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main() -> None:
    """Start, say what runs as whom, and wait for the end of stdin."""
    server = LocalPostgres(fsync=False).start()
    pid = server.pid
    assert pid is not None
    processes = [pid, *_children(pid)] if sys.platform == "linux" else [pid]
    folder = str(Path(os.readlink(f"/proc/{pid}/cwd")).parent) if sys.platform == "linux" else ""  # it is in data
    sys.stdout.write(json.dumps({"url": server.url, "processes": processes, "uid": os.geteuid(), "folder": folder}))
    sys.stdout.write("\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
