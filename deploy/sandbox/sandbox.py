"""The parts put together: one store, one count, one plan of faults, and what of them survives a restart."""

from pathlib import Path
from typing import Any

from .clock import Clock, stamp
from .faults import Faults
from .gateway import Gateway
from .pipeline import Credentials, Pipeline
from .seed import generate
from .statelog import StateFileError, StateLog
from .store import Store
from .traffic import Traffic
from .webhook import Notifier, Subscription

_HEADER = "pems-sandbox state 1"


class Sandbox:
    """A stand-in for PEMS, without its HTTP server."""

    def __init__(self, *, records: int, seed: int, state: Path | None, rate_limit: int, credentials: Credentials):
        """Raises StateFileError when the state file cannot be used."""
        self.clock = Clock()
        self.traffic = Traffic(rate_limit)
        self.faults = Faults()
        self.notifier = Notifier(self.clock)
        self._log = StateLog(state)
        self._credentials = credentials
        self._started_at = self.clock.now()
        self._begin(records, seed)
        self._replay()

    def reset(self, records: int, seed: int) -> None:
        """Back to the beginning: data, audit, counts and faults. Webhooks stay."""
        latency_seconds = self.pipeline.latency_seconds
        self.pipeline.retire()
        self.faults.clear()
        self.traffic = Traffic(self.traffic.limit)
        self._begin(records, seed)
        self.pipeline.latency_seconds = latency_seconds
        self._log.start_over(self._header())
        self._log.append(self.notifier.kept())

    def forget_traffic(self) -> None:
        self.traffic.forget()
        self._log.append(b'{"forgotten":true}')

    def subscribe(self, subscription: Subscription) -> None:
        self.notifier.subscriptions[subscription.url] = subscription
        self._log.append(self.notifier.kept())

    def unsubscribe(self) -> None:
        self.notifier.subscriptions.clear()
        self._log.append(self.notifier.kept())

    def stats(self) -> dict[str, Any]:
        """What `GET /sandbox/stats` answers."""
        store, counts = self.store, self.store.counts
        return {
            "startedAt": stamp(self._started_at),
            "now": stamp(self.clock.now()),
            "seed": self.seed,
            "records": {"total": len(store.records), **store.records_per_organization()},
            "writes": {
                "applied": counts["applied"],
                "edits": counts["EDIT"],
                "removed": counts["REMOVE"],
                "rejectedStale": counts["Stale"],
                "rejectedInvalid": counts["Invalid"],
                "rejectedByRule": counts["BrokenRule"],
                "notFound": counts["Missing"],
                "repeatedAnswers": counts["repeated"],
                "withoutKey": counts["withoutKey"],
            },
            "keys": {**store.audit.report(), "reusedForAnotherRequest": sorted(store.keys_reused)},
            **self.traffic.report(),
            "faults": self.faults.injected(),
            "webhook": self.notifier.report(),
        }

    async def close(self) -> None:
        await self.notifier.close()
        self._log.close()

    def _begin(self, records: int, seed: int) -> None:
        self.records, self.seed = records, seed
        self.store = Store(generate(records, seed), self.clock, self._log)
        self.store.on_change = self.notifier.changed
        gateway = Gateway(self.store, self.faults, self.clock)
        self.pipeline = Pipeline(gateway, self.traffic, self.faults, self._credentials, self.clock, self._log)

    def _header(self) -> dict[str, Any]:
        return {"file": _HEADER, "records": self.records, "seed": self.seed}

    def _replay(self) -> None:
        try:
            for line in self._log.replay(self._header()):
                self._replay_line(line)
        except (KeyError, TypeError, ValueError) as error:
            raise StateFileError(f"the state file does not fit its records ({error!r}); remove the file") from error

    def _replay_line(self, line: dict[str, Any]) -> None:
        match line:
            case {"arrived": at}:
                self.traffic.arrive(at)
            case {"answered": [method, result]}:
                self.traffic.answered(method, result)
            case {"audit": entry, "fingerprint": fingerprint}:
                self.store.replay_change(entry, fingerprint)
            case {"refused": [key, fingerprint, kind, values]}:
                self.store.replay_refusal(key, fingerprint, kind, values)
            case {"repeated": [key, is_other]}:
                self.store.replay_repeat(key, is_other)
            case {"forgotten": True}:
                self.traffic.forget()
            case {"webhooks": kept}:
                self.notifier.replay(kept)
