"""Secrets, cookies, transport and passwords. The defaults are the safe values."""

from config.environ import environment

_env = environment()

SECRET_KEY = _env.secret_key
ALLOWED_HOSTS = list(_env.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(_env.csrf_trusted_origins)
CSRF_FAILURE_VIEW = "config.problems.csrf_failure"

# All shapes have the same user model, for staff only. If the user model depended on the shape, a
# split would be irreversible.
AUTH_USER_MODEL = "auth.User"
AUTHENTICATION_BACKENDS = ["config.logins.backend.GuardedBackend"]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "api-root"
LOGOUT_REDIRECT_URL = "api-root"

# HTTPS=off is for a development stack on the loopback interface.
SECURE_SSL_REDIRECT = _env.https
# Probes, scrapers and the other service use plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^healthz/", r"^\.well-known/jwks\.json$", r"^internal/", r"^metrics$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if _env.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _env.https
# A preload list of browsers covers every subdomain, and removal from it takes months. So preloading
# needs HSTS_PRELOAD. Without HSTS_PRELOAD, Django would always warn with security.W021.
SECURE_HSTS_PRELOAD = _env.https and _env.hsts_preload
SILENCED_SYSTEM_CHECKS = ["security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
# This header is trusted only if PROXIES says that a proxy sets it; see also config.gunicorn.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _env.proxies else None
X_FRAME_OPTIONS = "DENY"
# DEBUG's pages of errors. They go to this machine only (config.middleware.this_machine_only).
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.debug_page.ReportFilter"
# In the form of Django 6. A browser runs and loads only what this process serves as a file.
SECURE_CSP = {
    "default-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
}
# The templates of DRF and Swagger UI contain style attributes, and their styles contain images.
CSP_OF_BROWSABLE_API = {
    **SECURE_CSP,
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:"],
}

# Cookies ignore ports. With the same cookie name, services on one host would log each other out.
SESSION_COOKIE_NAME = f"mitosis_{_env.service}_session"
CSRF_COOKIE_NAME = f"mitosis_{_env.service}_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _env.https
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600  # seconds: a working day, not Django's two weeks

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
_VALIDATION = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_VALIDATION}.UserAttributeSimilarityValidator"},
    {"NAME": f"{_VALIDATION}.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": f"{_VALIDATION}.CommonPasswordValidator"},
    {"NAME": f"{_VALIDATION}.NumericPasswordValidator"},
]
