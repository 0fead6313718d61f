"""For each import contract, imports that break it: (contract, importer, imported)."""

Seed = tuple[str, str, str]

SEEDS: list[Seed] = [
    ("services-are-strangers", "orders.handlers", "accounts.models"),
    ("services-are-strangers", "accounts.inbound", "orders.published"),
    ("outbox-is-mechanism", "outbox.publishing.relay", "accounts.models"),
    ("outbox-is-mechanism", "outbox.tasks", "config.environ"),
    ("config-is-named-not-imported", "orders.api.views", "config.identity"),
    ("config-is-named-not-imported", "outbox.streams", "config.environ"),
    ("config-names-by-string", "config.urls", "orders.api.urls"),
    ("config-names-by-string", "config.celery", "accounts.handlers"),
    ("rooms-of-accounts", "accounts.domain", "accounts.models"),
    ("rooms-of-accounts", "accounts.handlers", "accounts.api.views"),
    ("rooms-of-orders", "orders.projections", "orders.consumers"),
    ("rooms-of-orders", "orders.models", "orders.handlers"),
    ("domain-is-plain-python", "accounts.domain", "django"),
    ("domain-is-plain-python", "orders.domain", "outbox.envelope"),
    ("one-door-to-redis", "outbox.publishing.relay", "redis"),
    ("one-door-to-redis", "config.health", "redis"),
    ("http-stays-in-api", "orders.handlers", "rest_framework"),
    ("http-stays-in-api", "outbox.consumer", "rest_framework"),
    ("edges-call-handlers-and-queries", "orders.api.views", "orders.models"),
    ("edges-call-handlers-and-queries", "accounts.consumers", "outbox.recorder"),
    ("projections-are-replayable", "orders.projections", "outbox.recorder"),
    ("projections-are-replayable", "orders.projections", "celery"),
]

# Modules in no layer, which break an exhaustive contract.
UNPLACED: list[tuple[str, str]] = [
    ("rooms-of-accounts", "accounts.surprise"),
    ("rooms-of-orders", "orders.surprise"),
]
