"""A PostgreSQL server from the wheel, for as long as stdin stays open; it says the URL of an empty database."""

import json
import sys

from authsec_server.testing import LocalPostgres

with LocalPostgres() as server:
    print(json.dumps({"url": server.create_database()}), flush=True)
    sys.stdin.read()
