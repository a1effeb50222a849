"""Behind a proxy that ends TLS. `manage.py check --deploy` passes with these."""

from django.core.exceptions import ImproperlyConfigured

from config import configuration
from config.settings.base import *  # noqa: F403
from config.settings.base import DATABASE_URL, REDIS_URL

DEBUG = False
SECRET_KEY: str = configuration.read("SECRET_KEY")
ALLOWED_HOSTS: list[str] = configuration.read("ALLOWED_HOSTS")
for _name, _value in (
    ("SECRET_KEY", SECRET_KEY), ("ALLOWED_HOSTS", ALLOWED_HOSTS), ("DATABASE_URL", DATABASE_URL), ("REDIS_URL", REDIS_URL),
):  # fmt: skip
    if not _value:
        raise ImproperlyConfigured(f"{_name} must be set in production.")

SECURE_SSL_REDIRECT = True
SECURE_REDIRECT_EXEMPT = [r"^api/health/"]  # probes reach the pod directly
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
