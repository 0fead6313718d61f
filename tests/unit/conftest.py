"""Properties are about what holds, not about how fast a busy machine finds out."""

from hypothesis import HealthCheck, settings

settings.register_profile("mitosis", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mitosis")
