"""Use one client once, and print how much memory this process then has. Arguments: the root, the client, the URL."""

import sys

root, subject, url = sys.argv[1:]
if subject == "httpx":
    import httpx

    httpx.Client().get(f"{url}/secure-vault/metrics", headers={"Authorization": "Bearer static"}).json()
elif subject != "bare interpreter":
    sys.path.append(root)  # at the end: what is measured comes from its own environment
    from benchmarks.subjects import SUBJECTS

    client = SUBJECTS[subject](url)
    client.warm(1)
    if subject == "authsec":
        client.client.fetch("secure-vault/metrics", "read:metrics")  # type: ignore[attr-defined] # of ours alone

with open("/proc/self/status", encoding="ascii") as status:
    kibibytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
print(f'{{"bytes": {kibibytes * 1024}}}')
