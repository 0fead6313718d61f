"""The kustomizations of docker/kubernetes, and the versions of Kubernetes that they are for."""

from typing import Final

import pytest

from tests.support.surroundings import CHECKOUT

FOLDER: Final = CHECKOUT / "docker" / "kubernetes"
DEPLOYMENTS: Final = {"monolith": "all", "accounts": "accounts", "orders": "orders"}
EVERY: Final = ("base", *(f"overlays/{name}" for name in DEPLOYMENTS))
VERSIONS: Final = ("1.30", "1.37")  # the oldest that has `preStop.sleep`, and the newest

every = pytest.mark.parametrize("folder", EVERY)
overlays = pytest.mark.parametrize("name", DEPLOYMENTS)
