"""No framework at all: fetch protected data, or put tokens on requests of your own."""

from authsec_core import AuthSecClient, AuthSecError

with AuthSecClient() as authsec:
    result = authsec.fetch("secure-vault/records", scope="read:records")
    print(f"{result.mode}: {result.code} with token {result.token.jti if result.token else '-'}")
    for record in result.data:
        print(f"  {record['id']}  {record['owner']}")

    try:
        authsec.fetch("secure-vault/records", scope="write:records")
    except AuthSecError as refused:
        print(f"refused: {refused.code}: {refused}")

    # For requests of your own: httpx.get(url, auth=authsec.auth(scope="read:records"))
