"""The project's own settings, in the surroundings of tests. Also what mypy's plugin reads."""

from tests.support import surroundings

surroundings.prepare()

from config.settings import *  # noqa: E402, F403
from config.settings import INSTALLED_APPS as PRODUCTION_APPS  # noqa: E402

INSTALLED_APPS = [*PRODUCTION_APPS, "tests.support.flushing"]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast, and nothing else
WHITENOISE_AUTOREFRESH = True  # no list of all static files for each test client
