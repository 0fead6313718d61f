"""Compares the manifests of docker/kubernetes with the schemas of Kubernetes and with compose.

pytest runs this file only if an argument names it: it needs an environment of its own.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from config.environ import SERVICES
from config.problem_types import GENERAL
from outbox import consumer
from placement.provision import OWNER_CONNECTIONS
from tests.architecture.kubernetes.rendering import Manifest, containers, pods, rendered
from tests.architecture.test_docs import LINK
from tests.support.composed import services
from tests.support.environments import python_with
from tests.support.surroundings import CHECKOUT

HERE: Final = Path(__file__).parent
FOLDER: Final = CHECKOUT / "docker" / "kubernetes"
DEPLOYMENTS: Final = {"monolith": "all", "accounts": "accounts", "orders": "orders"}
EVERY: Final = ("base", *(f"overlays/{name}" for name in DEPLOYMENTS))
VERSIONS: Final = ("1.30", "1.37")  # the oldest that has `preStop.sleep`, and the newest
README: Final = " ".join((FOLDER / "README.md").read_text().split())
NGINX: Final = CHECKOUT / "docker" / "nginx"
# A location that nginx sends to a service, and the service.
LOCATION: Final = re.compile(
    r"(?m)^    location (?:~ )?([/^]\S*) \{[^}]*?proxy_pass \$(accounts|orders);"
)
ENTRYPOINT: Final = CHECKOUT / "docker" / "entrypoint.py"
THREADS: Final = re.compile(r'setting\("(WEB_WORKERS|WEB_THREADS|WORKER_THREADS)", "(\d+)"\)')
RESERVED: Final = 3  # PostgreSQL's superuser_reserved_connections
SCALED_OBJECT: Final = json.loads((HERE / "scaled-object.json").read_text())

every = pytest.mark.parametrize("folder", EVERY)
overlays = pytest.mark.parametrize("name", DEPLOYMENTS)


def of_kind(kind: str, manifests: list[Manifest]) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def deployment(process: str, manifests: list[Manifest]) -> Manifest:
    """The `spec` of the Deployment of this process, with or without a prefix."""
    [spec] = [
        one["spec"]
        for name, one in of_kind("Deployment", manifests).items()
        if name.rpartition("-")[2] == process
    ]
    return dict(spec)


def block(key: str) -> list[Manifest]:
    """The list with this key in a YAML block of the README."""
    text = (FOLDER / "README.md").read_text()
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", text)
    [found] = [parsed[key] for parsed in map(yaml.safe_load, blocks) if key in parsed]
    return list(found)


@every
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_in_kubernetes(
    folder: str, version: str, tmp_path: Path
) -> None:
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
def test_the_web_server_answers_at_the_address_of_its_pod(folder: str) -> None:
    """Prometheus sends this address as Host. `$(…)` contains only entries of `env` above it."""
    manifests = rendered(FOLDER / folder)
    entries = deployment("web", manifests)["template"]["spec"]["containers"][0]["env"]
    hosts, address, allowed = entries
    found = hosts["valueFrom"]["configMapKeyRef"]

    assert "web" in of_kind("ConfigMap", manifests)[found["name"]]["data"][found["key"]]
    assert address["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert (hosts["name"], address["name"]) == ("HOSTS", "POD_IP")
    assert allowed == {"name": "ALLOWED_HOSTS", "value": "$(HOSTS),$(POD_IP),[$(POD_IP)]"}


@every
def test_prometheus_gives_the_lag_the_labels_that_keda_asks_for(folder: str) -> None:
    """The lag has a label `service`, which a label of the target would rename."""
    manifests = rendered(FOLDER / folder)
    [scaled] = of_kind("ScaledObject", manifests).values()
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    asked = dict(re.findall(r'(\w+)="(\w+)"', query))
    [job] = block("scrape_configs")
    labels = deployment("web", manifests)["template"]["metadata"]["labels"]
    kept, namespace = job["relabel_configs"]
    values = [
        value
        for source in kept["source_labels"]
        for label, value in labels.items()
        if source.endswith(f"pod_label_{re.sub('[^a-z]', '_', label)}")
    ]

    assert job["honor_labels"] is True
    assert job["kubernetes_sd_configs"][0]["namespaces"]["names"] == [asked.pop("namespace")]
    assert (namespace["source_labels"], namespace["target_label"]) == (
        ["__meta_kubernetes_namespace"],
        "namespace",
    )
    assert kept["action"] == "keep"
    assert ";".join(values) == kept["regex"]
    assert asked.keys() <= {"service"}


@every
def test_a_role_may_open_the_connections_of_all_pods(folder: str) -> None:
    """At the peak of a rolling update, with the most consumers. A worker's relay has a session of
    its own besides those of the threads."""
    manifests = rendered(FOLDER / folder)
    [settings] = [each["data"] for each in of_kind("ConfigMap", manifests).values()]
    [scaled] = of_kind("ScaledObject", manifests).values()
    threads = {**dict(THREADS.findall(ENTRYPOINT.read_text())), **settings}
    web, worker = (most_pods(deployment(each, manifests)) for each in ("web", "worker"))
    consumers = scaled["spec"]["maxReplicaCount"]
    readers = Counter(found.label for found in consumer.every() for _ in found.producers)

    of_web = web * int(threads["WEB_WORKERS"]) * int(threads["WEB_THREADS"])
    of_worker = worker * (int(threads["WORKER_THREADS"]) + 1)
    of_consumers = (consumers + ceil(consumers / 4)) * max(readers.values())

    limit = int(settings["PLACEMENT_CONNECTIONS"])
    assert of_web + of_worker + of_consumers <= limit


def most_pods(spec: Manifest) -> int:
    """During a rolling update. Kubernetes' own `maxSurge` is a quarter, rounded up."""
    replicas = spec["replicas"]
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    return int(replicas + rolling.get("maxSurge", ceil(replicas / 4)))


def test_the_readme_names_the_connections_that_a_server_must_allow() -> None:
    [settings] = of_kind("ConfigMap", rendered(FOLDER / "base")).values()
    limit = int(settings["data"]["PLACEMENT_CONNECTIONS"])
    needed = len(SERVICES) * (2 * limit + OWNER_CONNECTIONS) + RESERVED

    assert f"`PLACEMENT_CONNECTIONS` = {limit} here" in README
    assert f"must be at least {needed}:" in README


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


def test_the_overlays_serve_every_path_of_nginx_at_the_shared_host() -> None:
    """nginx asks orders for a type of problems that accounts doesn't explain; an Ingress can't."""
    api_port = (NGINX / "services.conf").read_text().split("listen 8001")[0]
    nginx = {
        path.rstrip("/"): service
        for location, service in LOCATION.findall(api_port)
        for path in expanded(location)
    }
    only_orders = slugs("orders") - slugs("accounts") - GENERAL.keys()
    served = {
        path["path"]: name
        for name in ("accounts", "orders")
        for ingress in of_kind("Ingress", rendered(FOLDER / "overlays" / name)).values()
        for rule in ingress["spec"]["rules"]
        if rule["host"] == "shop.example.com"
        for path in rule["http"]["paths"]
    }

    assert {"/api/users", "/api/orders", "/problems", "/static"} <= nginx.keys()
    assert served == nginx | {f"/problems/{slug}": "orders" for slug in only_orders}


def expanded(location: str) -> list[str]:
    """The paths with which this location of nginx begins."""
    plain = location.removeprefix("^").removesuffix("(/|$)").replace("\\", "")
    before, _, group = plain.partition("(")
    alternatives, _, after = group.partition(")")
    return [f"{before}{each}{after}" for each in alternatives.split("|")]


def slugs(service: str) -> set[str]:
    problems = import_module(f"{service}.api.problems").PROBLEMS
    return {entry["slug"] for entry in problems.values()}


@every
def test_the_ingress_controller_accepts_the_largest_body(folder: str) -> None:
    [ingress] = of_kind("Ingress", rendered(FOLDER / folder)).values()
    limit = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]

    assert f"client_max_body_size {limit};" in (NGINX / "limits.conf").read_text()


@overlays
def test_the_pooler_of_the_readme_is_for_web_alone(name: str, tmp_path: Path) -> None:
    overlay = yaml.safe_load((FOLDER / "overlays" / name / "kustomization.yml").read_text())
    overlay["resources"] = [str(FOLDER / "base")]
    overlay["patches"] = [*overlay.get("patches", ()), *block("patches")]
    (tmp_path / "kustomization.yml").write_text(yaml.safe_dump(overlay))
    pairs = zip(rendered(tmp_path), rendered(FOLDER / "overlays" / name), strict=True)
    deployed, policy = [one for one, before in pairs if one != before]
    web = deployed["spec"]["template"]["spec"]

    assert (deployed["kind"], policy["kind"]) == ("Deployment", "NetworkPolicy")
    assert web["containers"][0]["args"] == ["web"]
    assert {"name": "PLACEMENT_POOLER", "value": "on"} in web["containers"][0]["env"]
    assert web["volumes"][0] == {
        "name": "secrets",
        "secret": {"secretName": "web-secrets", "defaultMode": 0o444},
    }
    assert {"ports": [{"port": 6432, "protocol": "TCP"}]} in policy["spec"]["egress"]


def test_the_readme_leads_to_the_page_that_a_link_names() -> None:
    links = LINK.findall((FOLDER / "README.md").read_text())
    targets = {text: (FOLDER / target.partition("#")[0]).resolve() for text, target in links}
    pages = {text: CHECKOUT / "docs" / f"{text.replace(' ', '-')}.md" for text in targets}

    assert f"Kubernetes {VERSIONS[0]} or later" in README
    assert {"managed servers", "upgrades"} <= targets.keys()
    for text, target in links:
        assert target.startswith("https://") or targets[text].exists(), text
        assert not pages[text].exists() or targets[text] == pages[text], text


def test_the_readme_names_what_must_be_changed() -> None:
    manifests = rendered(FOLDER / "base")
    [ingress], [job] = (of_kind(kind, manifests).values() for kind in ("Ingress", "Job"))
    [tls] = ingress["spec"]["tls"]
    _, administrator, _ = job["spec"]["template"]["spec"]["containers"][0]["args"]

    assert f"create secret tls {tls['secretName']} " in README
    assert f"`{administrator}` in [migrate.yml]" in README
    assert "ingressClassName" not in ingress["spec"]
    assert "`ingressClassName` of the Ingress" in README


def paths_of(ingress: Manifest) -> Iterator[dict[str, Any]]:
    return (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"])


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
