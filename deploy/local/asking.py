"""Does anybody answer there?"""

import http.client
from urllib.parse import urlsplit


def answer_status(url: str) -> int | None:
    """The HTTP status that comes back, without following redirects and past any proxy; None when nobody answers."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
