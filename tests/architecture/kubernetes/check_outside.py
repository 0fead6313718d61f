"""Compares the manifests of docker/kubernetes with the limits of PostgreSQL, Prometheus, nginx of
compose, and the README.

pytest runs this file only if an argument names it: it needs the monolith.
"""

import re
from collections import Counter
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Final

import yaml

from config.environ import SERVICES
from config.problem_types import GENERAL
from outbox import consumer
from placement.provision import OWNER_CONNECTIONS
from tests.architecture.kubernetes.folders import FOLDER, VERSIONS, every, overlays
from tests.architecture.kubernetes.rendering import Manifest, deployment, of_kind, rendered
from tests.architecture.test_docs import LINK
from tests.support.surroundings import CHECKOUT

TEXT: Final = (FOLDER / "README.md").read_text()
README: Final = " ".join(TEXT.split())
NGINX: Final = CHECKOUT / "docker" / "nginx"
# A location that nginx sends to a service, and the service.
LOCATION: Final = re.compile(
    r"(?m)^    location (?:~ )?([/^]\S*) \{[^}]*?proxy_pass \$(accounts|orders);"
)
ENTRYPOINT: Final = CHECKOUT / "docker" / "entrypoint.py"
THREADS: Final = re.compile(r'setting\("(WEB_WORKERS|WEB_THREADS|WORKER_THREADS)", "(\d+)"\)')
RESERVED: Final = 3  # PostgreSQL's superuser_reserved_connections


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
    assert max(readers.values()) == readers["orders"] == 4  # as docs/scaling.md says
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
    links = LINK.findall(TEXT)
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


def block(key: str) -> list[Manifest]:
    """The list with this key in a YAML block of the README."""
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", TEXT)
    [found] = [parsed[key] for parsed in map(yaml.safe_load, blocks) if key in parsed]
    return list(found)
