import os

SECRET_KEY = "for tests only"
DEBUG = True
ROOT_URLCONF = "urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "shop",
    "placement",
]
MIDDLEWARE = ["placement.replicas.middleware.ConsistencyToken"]


def server(name, **options):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["DB_NAME"],
        "USER": os.environ["DB_USER"],
        "PASSWORD": os.environ["DB_PASSWORD"],
        "HOST": os.environ[f"{name}_HOST"],
        "PORT": os.environ.get(f"{name}_PORT", "5432"),
        "OPTIONS": options,
    }


DATABASES = {
    "default": server("PRIMARY"),
    "replica": {
        **server(
            "REPLICA",
            connect_timeout=2,  # seconds; then the primary is used
            tcp_user_timeout=2000,  # milliseconds, for a host that stops answering
            options="-c default_transaction_read_only=on",  # also after a promotion
        ),
        "TEST": {"MIRROR": "default"},
    },
}
DATABASE_ROUTERS = ["placement.router.PlacementRouter"]
PLACEMENT_REPLICAS = {"default": ["replica"]}
PLACEMENT_REPLICA_LAG_SECONDS = float(os.environ.get("REPLICA_LAG_SECONDS", "1"))
PLACEMENT_SERVED_BY = True  # name the server of the last read in the header Served-By

CACHES = {
    "default": {
        "BACKEND": "placement.ring.cache.RingCache",
        "LOCATION": os.environ["RING_NODES"].split(","),
        "KEY_PREFIX": "shop",
        "OPTIONS": {"STORE": os.environ["RING_STORE"]},
    }
}
