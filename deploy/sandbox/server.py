"""The sandbox on real HTTP, until it is told to stop."""

import asyncio
import gc
import signal
import socket
from pathlib import Path

from aiohttp import web

from .controls import Controls
from .gateway import PREFIX
from .pipeline import BODY_LIMIT, Credentials
from .sandbox import Sandbox


class PortTakenError(Exception):
    """The address cannot be listened on."""


def serve(
    *, host: str, port: int, records: int, seed: int, state: Path | None, rate_limit: int, latency_ms: float
) -> None:
    """Runs until SIGTERM or SIGINT; prints one line with the address as soon as requests are answered.

    Raises PortTakenError or StateFileError with a sentence for the caller, before anything else has happened.
    """
    listener = _listener(host, port)
    credentials = Credentials.from_environment()
    sandbox = Sandbox(records=records, seed=seed, state=state, rate_limit=rate_limit, credentials=credentials)
    sandbox.pipeline.latency_seconds = latency_ms / 1000
    gc.collect()
    gc.freeze()  # the records are not looked at again: a collection must not hold up arrivals
    asyncio.run(_run(sandbox, listener))


async def _run(sandbox: Sandbox, listener: socket.socket) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(_application(sandbox), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024).start()
    host, port = listener.getsockname()[:2]
    print(f"PEMS sandbox on http://{host}:{port} ({sandbox.records} records, seed {sandbox.seed})", flush=True)
    await stop.wait()
    await runner.cleanup()
    await sandbox.close()


def _application(sandbox: Sandbox) -> web.Application:
    async def to_pems(request: web.Request) -> web.StreamResponse:
        return await sandbox.pipeline.handle(request)

    application = web.Application(client_max_size=BODY_LIMIT)
    application.router.add_route("*", PREFIX + "{path:.*}", to_pems)
    Controls(sandbox).add_to(application.router)
    return application


def _listener(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise PortTakenError(
            f"cannot listen on {host}:{port} ({error.strerror}): stop what uses it or choose another --port"
        ) from error
    return listener
