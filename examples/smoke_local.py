"""Is this machine set up? Prints mode, masked identity, expiry and whether the cache works; exits 1 if not."""

import sys

from authsec_core import AuthSecClient, AuthSecError


def masked(identity: str | None) -> str:
    """Show enough of a client id to recognise it."""
    return "none" if identity is None else f"{identity[:4]}…{identity[-4:]}"


def main() -> int:
    """Ask for the whole delegation twice; the second answer has to come from the cache."""
    try:
        with AuthSecClient() as authsec:
            first = authsec.delegation_token()
            second = authsec.delegation_token()
    except AuthSecError as error:
        print(f"FAILED ({error.code}): {error}", file=sys.stderr)
        return 1
    print(f"mode      {first.mode}")
    print(f"identity  {masked(first.client_id)}")
    print(f"scopes    {' '.join(sorted(first.scopes)) or '(none)'}")
    print(f"expires   in {first.lifetime:.0f} s")
    print(f"cache     {'hit' if second is first else 'MISS'}")
    return 0 if second is first else 1


if __name__ == "__main__":
    sys.exit(main())
