"""What every process shares. `local`, `test` and `production` add only what differs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import environ

from config import configuration

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VAR_DIR = Path(configuration.read("VAR_DIR")).resolve()

DATABASE_URL: str = configuration.read("DATABASE_URL")
REDIS_URL: str = configuration.read("REDIS_URL")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "csp",
    "channels",
    "pems_sync",
    "conflicts",
    "realtime",
    "config",
]

MIDDLEWARE = [
    "config.request_context.RequestContextMiddleware",
    "config.errors.EnvelopeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES: dict[str, dict[str, Any]] = {
    "default": environ.Env.db_url_config(DATABASE_URL or "postgres://127.0.0.1:1/none")
}
# Workers keep one connection per process; the web process turns the pool on in config.asgi.
DATABASES["default"] |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = 5
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASE_POOL_SIZE: int = configuration.read("DATABASE_POOL_SIZE")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT: Path | None = VAR_DIR / "static"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "/admin/login/"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

BODY_LIMIT_BYTES = 1_000_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * BODY_LIMIT_BYTES  # the API's own parser refuses at BODY_LIMIT_BYTES, with a 413

REST_FRAMEWORK = {
    # Knox first: with the session first DRF answers 403 where a client is simply not signed in.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "pems_sync.api.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["pems_sync.api.throttling.SlidingUserThrottle"],
    "DEFAULT_PARSER_CLASSES": ["pems_sync.api.parsing.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.errors.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
REST_KNOX = {"TOKEN_TTL": timedelta(hours=10), "AUTH_HEADER_PREFIX": "Bearer", "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "pems-sync",
    "DESCRIPTION": "Planners edit PFA records here; every committed edit reaches PEMS exactly once.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "StatusWord": "pems_sync.api.wire.STATUS_WORDS",
        "JobStatus": ["running", "completed", "failed"],
        "ConflictStatus": ["unresolved", "resolved"],
        "ConflictKind": ["edit_edit", "edit_deleted", "delete_edited", "edit_discontinued", "overtaken"],
        "WriteSyncStatus": ["ok", "no_workers", "stuck", "no_sweep"],
    },
}

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL or "redis://127.0.0.1:1/0"], "prefix": "pems-sync"},
    }
}

API_USER_RATE_LIMIT: int = configuration.read("API_USER_RATE_LIMIT")
LOGIN_FAILURE_LIMIT: int = configuration.read("LOGIN_FAILURE_LIMIT")
SECRETS_BACKEND: str = configuration.read("SECRETS_BACKEND")
SECRETS_CACHE_SECONDS: int = configuration.read("SECRETS_CACHE_SECONDS")
PEMS_REQUEST_TIMEOUT: float = configuration.read("PEMS_REQUEST_TIMEOUT")
PEMS_API_RATE_LIMIT: float = configuration.read("PEMS_API_RATE_LIMIT")
PEMS_BATCH: bool = configuration.read("PEMS_BATCH")
ENABLE_WRITE_SYNC: bool = configuration.read("ENABLE_WRITE_SYNC")
WRITE_SYNC_BATCH_SIZE: int = min(100, configuration.read("WRITE_SYNC_BATCH_SIZE"))
WRITE_SYNC_MAX_RETRIES: int = configuration.read("WRITE_SYNC_MAX_RETRIES")
WRITE_SYNC_RETRY_DELAY: float = configuration.read("WRITE_SYNC_RETRY_DELAY")
CLAIM_LEASE_SECONDS: float = configuration.read("CLAIM_LEASE_SECONDS")
WORKER_WATCHDOG_SECONDS: int = configuration.read("WORKER_WATCHDOG_SECONDS")
PROOF_DELAYS: list[float] = configuration.read("PROOF_DELAYS")
PULL_INTERVAL_SECONDS: float = configuration.read("PULL_INTERVAL_SECONDS")
PULL_OVERLAP_SECONDS: int = configuration.read("PULL_OVERLAP_SECONDS")
SWEEP_HOUR_UTC: int = configuration.read("SWEEP_HOUR_UTC")

METRICS_NETWORKS: list[str] = configuration.read("METRICS_NETWORKS")
LOG_LEVEL: str = configuration.read("LOG_LEVEL")
LOGGING_CONFIG = "config.logs.configure"
LOGGING = {"version": 1}  # not empty, or Django would not call LOGGING_CONFIG
