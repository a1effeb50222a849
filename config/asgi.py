"""The web process: requests to Django, sockets to the hub. Import this in a server only, it changes the process."""

import os
import resource
from typing import Any

from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application

from config.body_limit import with_body_ceiling

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")


def take_connections_from_a_pool(database: dict[str, Any], size: int) -> None:
    """Requests run in many threads: a connection each would be too many, a new one each time too slow.

    Workers keep one connection per process, which the pool's rules (FACTS) do not allow; so it is not in the settings.
    """
    database |= {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
    database.setdefault("OPTIONS", {})["pool"] = {"min_size": min(2, size), "max_size": size, "timeout": 10}


def allow_many_sockets() -> None:
    """As many open files as we may have: the usual 1,024 are used up by as many sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


take_connections_from_a_pool(settings.DATABASES["default"], settings.DATABASE_POOL_SIZE)
allow_many_sockets()
http = with_body_ceiling(get_asgi_application())

from realtime.routing import sockets  # noqa: E402  (models can be imported only now)

application = ProtocolTypeRouter({"http": http, "websocket": sockets})
