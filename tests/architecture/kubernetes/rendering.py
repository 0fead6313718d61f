"""Renders a kustomization as `kubectl kustomize` does, for the fields that docker/kubernetes uses.

These are `resources`, `namePrefix`, `images`, `replicas` and JSON patches (RFC 6902) with a target.
Any other field is an error, so the manifests can't use what this module doesn't render.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

Manifest = dict[str, Any]

REFERENCES: Final = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "service": "Service",
}
FIELDS: Final = {"apiVersion", "kind", "resources", "namePrefix", "images", "replicas", "patches"}


class Refused(Exception):
    """The kustomization uses a field or an operation that this module doesn't render."""


def rendered(folder: Path) -> list[Manifest]:
    """Return the manifests of the kustomization in this folder. Raises Refused."""
    found = yaml.safe_load((folder / "kustomization.yml").read_text())
    if unknown := found.keys() - FIELDS:
        raise Refused(f"{folder.name}: {', '.join(sorted(unknown))}")
    manifests = [one for name in found["resources"] for one in _resource(folder / name)]
    for patch in found.get("patches", ()):
        _apply(patch, manifests)
    _set_replicas(found.get("replicas", ()), manifests)
    _add_prefix(found.get("namePrefix", ""), manifests)
    _set_images(found.get("images", ()), manifests)
    return manifests


def _resource(path: Path) -> list[Manifest]:
    if path.is_dir():
        return rendered(path)
    # Aliases of YAML are copies, so a patch of one doesn't change the other.
    return [json.loads(json.dumps(one)) for one in yaml.safe_load_all(path.read_text())]


def _apply(patch: Manifest, manifests: list[Manifest]) -> None:
    target = patch["target"]
    matching = [one for one in manifests if _is_target(target, one)]
    if not matching:
        raise Refused(f"a patch has no target: {target}")
    for manifest in matching:
        for operation in yaml.safe_load(patch["patch"]):
            _operate(manifest, operation)


def _is_target(target: Manifest, manifest: Manifest) -> bool:
    if unknown := target.keys() - {"kind", "name", "labelSelector"}:
        raise Refused(f"target: {', '.join(sorted(unknown))}")
    metadata = manifest["metadata"]
    label, _, value = target.get("labelSelector", "").partition("=")
    return (
        target.get("kind", manifest["kind"]) == manifest["kind"]
        and target.get("name", metadata["name"]) == metadata["name"]
        and (not label or metadata.get("labels", {}).get(label) == value)
    )


def _operate(manifest: Manifest, operation: Manifest) -> None:
    """Apply one operation. `replace` and `remove` need an existing value, as in RFC 6902."""
    *path, last = [
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    ]
    place: Any = manifest
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    match operation["op"], place:
        case "add", list() if last == "-":
            place.append(operation["value"])
        case "add", dict():
            place[last] = operation["value"]
        case "replace", dict() if last in place:
            place[last] = operation["value"]
        case "remove", dict():
            del place[last]
        case "remove", list():
            del place[int(last)]
        case _:
            raise Refused(f"{manifest['kind']}: {operation}")


def _set_replicas(wanted: list[Manifest], manifests: list[Manifest]) -> None:
    for each in wanted:
        for one in manifests:
            if one["kind"] == "Deployment" and one["metadata"]["name"] == each["name"]:
                one["spec"]["replicas"] = each["count"]


def _set_images(wanted: list[Manifest], manifests: list[Manifest]) -> None:
    for each in wanted:
        for container in containers(manifests):
            if container["image"] == each["name"]:
                container["image"] = f"{each['newName']}:{each['newTag']}"


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for pod in pods(manifests):
        yield from pod.get("initContainers", ())
        yield from pod["containers"]


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    return (
        one["spec"]["template"]["spec"] for one in manifests if "template" in one.get("spec", ())
    )


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


def paths_of(ingress: Manifest) -> Iterator[Manifest]:
    return (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"])


def _add_prefix(prefix: str, manifests: list[Manifest]) -> None:
    """Rename the manifests, and change the references to them that kustomize knows."""
    known = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    for one in manifests:
        one["metadata"]["name"] = prefix + one["metadata"]["name"]
        _rename(one, lambda kind, name: prefix + name if (kind, name) in known else name)


def _rename(place: Any, new_name: Callable[[str, str], str]) -> None:
    if isinstance(place, list):
        for each in place:
            _rename(each, new_name)
    elif isinstance(place, dict):
        if "serviceAccountName" in place:
            name = place["serviceAccountName"]
            place["serviceAccountName"] = new_name("ServiceAccount", name)
        for key, kind in REFERENCES.items():
            if isinstance(place.get(key), dict):
                place[key]["name"] = new_name(kind, place[key]["name"])
        for each in place.values():
            _rename(each, new_name)
