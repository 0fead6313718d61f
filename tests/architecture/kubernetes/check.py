"""Compares the manifests of docker/kubernetes with the schemas of Kubernetes and with compose.

pytest runs this file only if an argument names it: it needs an environment of its own.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import jsonschema
import pytest
import yaml

from tests.architecture.kubernetes.folders import DEPLOYMENTS, FOLDER, VERSIONS, every, overlays
from tests.architecture.kubernetes.rendering import (
    Manifest,
    containers,
    deployment,
    of_kind,
    paths_of,
    pods,
    rendered,
)
from tests.support.composed import services
from tests.support.environments import python_with

HERE: Final = Path(__file__).parent
SCALED_OBJECT: Final = json.loads((HERE / "scaled-object.json").read_text())


@every
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_in_kubernetes(folder: str, version: str, tmp_path: Path) -> None:
    """With the strict schemas, a misspelled field is an error."""
    ours = [one for one in rendered(FOLDER / folder) if one["kind"] != "ScaledObject"]
    file = tmp_path / "manifests.yml"
    file.write_text(yaml.safe_dump_all(ours))
    python = python_with(HERE / "requirements.txt")

    checked = subprocess.run(
        [python, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, file],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(ours) > 10


@every
def test_the_consumers_scale_by_their_average_lag(folder: str) -> None:
    manifests = rendered(FOLDER / folder)
    [scaled] = of_kind("ScaledObject", manifests).values()

    jsonschema.validate(scaled, SCALED_OBJECT)
    spec = scaled["spec"]
    consumers = of_kind("Deployment", manifests)[spec["scaleTargetRef"]["name"]]
    assert "replicas" not in consumers["spec"]  # each `apply` would set them again
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 16)
    trigger = spec["triggers"][0]["metadata"]
    assert "avg_over_time(outbox_consumer_lag_events{" in trigger["query"]
    assert trigger["ignoreNullValues"] == "false"


@every
def test_every_selector_selects_pods_of_its_own_deployment(folder: str) -> None:
    manifests = rendered(FOLDER / folder)
    templates = [one["spec"]["template"] for one in manifests if "template" in one.get("spec", ())]
    selected = list(selectors(manifests))
    [instance] = {each["app.kubernetes.io/instance"] for each in selected}

    assert len(selected) > 12
    for selector in selected:
        assert any(selector.items() <= one["metadata"]["labels"].items() for one in templates)
    for one in manifests:
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == instance


def selectors(manifests: list[Manifest]) -> Iterator[dict[str, str]]:
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "Service":
            yield spec["selector"]
        elif one["kind"] == "NetworkPolicy":
            yield spec["podSelector"]["matchLabels"]
        elif one["kind"] in ("Deployment", "PodDisruptionBudget"):
            yield spec["selector"]["matchLabels"]
        if one["kind"] == "Deployment":
            for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
                yield spread["labelSelector"]["matchLabels"]


@every
def test_pods_run_without_privileges_on_a_read_only_root(folder: str) -> None:
    manifests = rendered(FOLDER / folder)

    for pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
    for container in containers(manifests):
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


@overlays
def test_a_pod_gets_the_same_settings_as_in_compose(name: str) -> None:
    """The names of the variables; compose gives the same secrets under other names."""
    [settings] = of_kind("ConfigMap", rendered(FOLDER / "overlays" / name)).values()
    file = "compose.yml" if name == "monolith" else "compose.services.yml"
    web = services(file)["web-1" if name == "monolith" else f"{name}-web-1"]["environment"]

    assert settings["data"]["SERVICE"] == DEPLOYMENTS[name]
    required = {key for key, value in web.items() if not re.fullmatch(r"\$\{\w+:-.*\}", str(value))}
    assert required <= settings["data"].keys()
    assert settings["data"].keys() <= web.keys() | {"REQUEST_IDS_TRUSTED"}


@every
def test_a_client_can_not_choose_the_id_of_its_request(folder: str) -> None:
    """nginx of compose replaces the headers, and an ingress controller passes them on."""
    [settings] = of_kind("ConfigMap", rendered(FOLDER / folder)).values()

    assert settings["data"]["PROXIES"] == "1"
    assert settings["data"]["REQUEST_IDS_TRUSTED"] == "off"


@overlays
def test_only_the_migrating_job_reads_the_secrets_of_owners(name: str) -> None:
    manifests = rendered(FOLDER / "overlays" / name)
    prefix = "" if name == "monolith" else f"{name}-"

    for kind, expected in (("Deployment", {"secrets"}), ("Job", {"secrets", "owner-secrets"})):
        for one in of_kind(kind, manifests).values():
            volumes = one["spec"]["template"]["spec"]["volumes"]
            secrets = {each["secret"]["secretName"] for each in volumes if "secret" in each}
            assert secrets == {prefix + each for each in expected}
    if name != "monolith":
        other = ({"accounts", "orders"} - {name}).pop().upper()
        given = [each["name"] for one in containers(manifests) for each in one.get("env", ())]
        assert given
        assert [each for each in given if each.startswith(other)] == []


@overlays
def test_references_name_manifests_that_exist(name: str) -> None:
    manifests = rendered(FOLDER / "overlays" / name)
    accounts, maps = (of_kind(kind, manifests) for kind in ("ServiceAccount", "ConfigMap"))

    assert all(pod["serviceAccountName"] in accounts for pod in pods(manifests))
    for container in containers(manifests):
        assert container["envFrom"][0]["configMapRef"]["name"] in maps
        assert container["image"].startswith("registry.example.com/mitosis:")
    backends = {
        path["backend"]["service"]["name"]
        for one in of_kind("Ingress", manifests).values()
        for path in paths_of(one)
    }
    assert backends == set(of_kind("Service", manifests))


@overlays
def test_no_public_path_is_internal_or_metrics(name: str) -> None:
    [ingress] = of_kind("Ingress", rendered(FOLDER / "overlays" / name)).values()
    prefixes = [path["path"] for path in paths_of(ingress) if path["pathType"] == "Prefix"]

    assert "/" not in prefixes
    assert [each for each in prefixes if each.startswith(("/internal", "/metrics"))] == []


@every
def test_no_pod_is_stopped_before_it_has_left_the_endpoints(folder: str) -> None:
    manifests = rendered(FOLDER / folder)
    web = deployment("web", manifests)
    pod = web["template"]["spec"]
    waited = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert web["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert web["replicas"] >= 2
    assert waited >= 5
    assert pod["terminationGracePeriodSeconds"] > waited + 20  # gunicorn's graceful timeout
    assert len(of_kind("PodDisruptionBudget", manifests)) == 3
