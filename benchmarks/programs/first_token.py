"""Get a MOCK token as soon as possible, and print when that was and how long the imports took."""

import time

started = time.perf_counter()
import jwt  # noqa: E402, F401 -- MOCK mode loads this and the next with its first token

import authsec_core._signing  # noqa: E402, F401 -- as above
from authsec_core import AuthSecClient, AuthSecConfig  # noqa: E402 -- the imports are what is timed

imports = time.perf_counter() - started

AuthSecClient(AuthSecConfig(mode="mock")).get_delegation_token("read:metrics")
print(f'{{"at": {time.monotonic()}, "imports": {imports}}}')
