"""Verify tokens with the keys of a JWKS, and print how many are good. Argument: a file with both."""

import json
import sys
from pathlib import Path

import jwt

told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(told["jwks"]).keys}
verified = 0
for token in told["tokens"]:
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="authsec-api")
    verified += claims["permissions"] == ["read:metrics"]
print(json.dumps({"verified": verified}))
