"""The embedded stack: `make up`, `make demo`, benchmarks. Loopback only, plain http."""

from config.settings.base import *  # noqa: F403
from config.settings.base import INSTALLED_APPS

DEBUG = False
SECRET_KEY = "local-only-and-worthless-outside-this-machine"  # noqa: S105  (production refuses to start without its own)
# Any loopback name may be used, on any port; the stack binds to loopback only.
ALLOWED_HOSTS = ["localhost", ".localhost", "[::1]", *(f"127.0.0.{number}" for number in range(1, 255))]
INSTALLED_APPS = [*INSTALLED_APPS, "deploy.sandbox", "deploy.local"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
STATIC_ROOT = None  # the finders serve; nothing is collected here
