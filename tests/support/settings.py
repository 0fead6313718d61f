"""The project's settings with the environment of tests. Mypy's plugin reads this module too."""

import os

from tests.support import surroundings

surroundings.prepare()

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, PLACEMENT_OWNERS  # noqa: E402
from config.settings import INSTALLED_APPS as PRODUCTION_APPS  # noqa: E402

INSTALLED_APPS = [*PRODUCTION_APPS, "tests.support.flushing"]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
WHITENOISE_AUTOREFRESH = True  # don't list all static files for each test client

if os.environ.get("TEST_SERVER_SIDE_BINDING"):  # of tests with psycopg 3
    for _one in (*DATABASES.values(), *PLACEMENT_OWNERS.values()):
        _one["OPTIONS"]["server_side_binding"] = True
