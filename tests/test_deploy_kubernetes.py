"""Do the manifests of the kit fit together, and do they let in what the authority lets in? No cluster is asked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folders

from deploy_kit import DEPLOY, DOCUMENTS, KIT, PODS, SERVERS, SETTINGS, URL, ours_in, shell_of, text_of

from authsec_core import AuthSecConfig
from authsec_core._signing import base64url
from authsec_server.app import create_app
from authsec_server.keys.masterkey import MasterKey, read_master_keys
from authsec_server.settings import ServerSettings

KEY: Final = base64url(MasterKey.generate().reveal())


def test_probes_ask_for_what_there_is() -> None:
    """Every path that a probe or a health check asks for is a route, at a port that is served."""
    routes = create_app(ServerSettings(dev=True, data_dir="unused")).openapi()["paths"].keys()
    found = {}
    for pod in SERVERS.values():
        for container in ours_in(pod):
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe := container.get(kind):
                    found[kind] = probe["httpGet"]["path"]
                    assert [port["containerPort"] for port in container["ports"]] == [8321]
    assert found == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    asked = {*found.values(), *re.findall(r"health_uri (\S+)", text_of(KIT / "Caddyfile"))}
    asked |= set(re.findall(r"127\.0\.0\.1:8321(/\w+)", text_of(KIT / "compose.yaml")))
    assert asked <= routes
    assert ServerSettings.model_fields["port"].default == 8321


def test_the_projected_token_is_for_this_issuer() -> None:
    """The audience of the pod's token is what the authority expects, and the SDK reads it where it is mounted."""
    (pod,) = (pod for name, pod in PODS.items() if name not in SERVERS)
    (container,) = pod["containers"]
    (source,) = pod["volumes"][0]["projected"]["sources"]
    (mount,) = container["volumeMounts"]
    given = {each["name"]: each["value"] for each in container["env"]}
    settings = ServerSettings(public_url=SETTINGS["AUTHSEC_SERVER_PUBLIC_URL"], database_url=URL, master_key=KEY)
    assert source["serviceAccountToken"]["audience"] == settings.issuer
    assert source["serviceAccountToken"]["expirationSeconds"] == 600
    assert mount["name"] == pod["volumes"][0]["name"]
    path = f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    assert given["AUTHSEC_WORKLOAD_TOKEN_FILE"] == path
    config = AuthSecConfig(
        base_url=given["AUTHSEC_BASE_URL"], client_id=given["AUTHSEC_AGENT_CLIENT_ID"], workload_token_file=path
    )
    assert config.agent_key is None


def test_the_selectors_on_the_page_are_those_of_the_pod() -> None:
    """What the agent is onboarded with is what the pod of the kit can prove."""
    account = DOCUMENTS["kubernetes/agent.yaml-0"]["metadata"]
    pod = DOCUMENTS["kubernetes/agent.yaml-1"]
    assert (pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) == (account["namespace"], account["name"])
    onboard = next(line for line in shell_of(DEPLOY / "kubernetes.md") if "clients onboard" in line)
    assert f"--selector k8s:ns={account['namespace']} --selector k8s:sa={account['name']}" in onboard


def test_pods_are_as_the_namespace_demands() -> None:
    """Each pod of the authority's namespace keeps the rules of the restricted profile, and writes to volumes alone."""
    assert DOCUMENTS["kubernetes/namespace.yaml-0"]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    for name, pod in SERVERS.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_what_is_selected_is_there() -> None:
    """Service, budget and ingress lead to the Deployment; each mounted volume, settings file and manifest exists."""
    documents = {(each["kind"], each["metadata"]["name"]): each for each in DOCUMENTS.values() if "metadata" in each}
    deployment = documents["Deployment", "authsec"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] == 3
    assert documents["Service", "authsec"]["spec"]["selector"] == labels == deployment["selector"]["matchLabels"]
    assert documents["PodDisruptionBudget", "authsec"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["PodDisruptionBudget", "authsec"]["spec"]["minAvailable"] < deployment["replicas"]
    (rule,) = documents["Ingress", "authsec"]["spec"]["rules"]
    assert f"https://{rule['host']}" == SETTINGS["AUTHSEC_SERVER_PUBLIC_URL"]
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] == "authsec"
    for pod in PODS.values():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    for resource in DOCUMENTS["kubernetes/kustomization.yaml-0"]["resources"]:
        assert (KIT / "kubernetes" / resource).is_file()


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("install"), reason="a program of Unix")
def test_the_copy_of_the_master_key_is_one_that_is_taken(tmp_path: Path) -> None:
    """What the init container runs makes a file that the server takes, of one that a group can read."""
    secret, copy = tmp_path / "mounted", tmp_path / "master.key"
    secret.write_text(f"{KEY}\n", encoding="ascii")
    secret.chmod(0o440)
    for name, pod in SERVERS.items():
        copy.unlink(missing_ok=True)
        (init,) = pod["initContainers"]
        *words, source, target = init["command"]
        mounts = {mount["name"]: mount["mountPath"] for mount in init["volumeMounts"]}
        assert source.startswith(f"{mounts['master-key']}/")
        assert target == SETTINGS["AUTHSEC_SERVER_MASTER_KEY_FILE"], name
        subprocess.run([*words, secret, copy], check=True)
        assert read_master_keys(copy) == (MasterKey.parse(KEY),)
