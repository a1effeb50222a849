"""What is measured every few seconds, from outside the processes: /proc, PostgreSQL, Redis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import redis

PROC = Path("/proc")

_TABLES = """
SELECT relname, n_live_tup, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables
WHERE schemaname = 'public' AND pg_table_size(relid) > 0
"""
_QUEUE = """
SELECT count(*) FILTER (WHERE state IN ('queued', 'sending', 'unknown')),
    coalesce(extract(epoch FROM clock_timestamp() - min(greatest(queued_at, coalesce(not_before, queued_at))) FILTER (
        WHERE state = 'queued' AND is_head AND coalesce(not_before, now()) <= now())), 0)
FROM pems_sync_modification WHERE state NOT IN ('confirmed', 'superseded', 'withdrawn')
"""
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


class Sampler:
    """Keeps one database connection, which is counted like the others."""

    def __init__(self, *, database_url: str, redis_url: str) -> None:
        self._database = psycopg.connect(database_url, autocommit=True)
        self._redis = redis.Redis.from_url(redis_url)

    def close(self) -> None:
        self._database.close()
        self._redis.close()

    def sample(self, pids: Mapping[str, list[int]]) -> dict[str, Any]:
        """`memoryMb`, `files` and `processes` by role; `tables`: live and dead rows, bytes of table and indexes;
        `lagSeconds`: how long the oldest due edit has been waiting; `depth`: edits committed and not settled."""
        depth, lag = self._row(_QUEUE)
        memory = self._redis.info("memory")
        return {
            **processes(pids),
            "connections": self._row(_CONNECTIONS)[0],
            "redisMb": round(memory["used_memory"] / 1e6, 3),
            "redisClients": self._redis.info("clients")["connected_clients"],
            "lagSeconds": round(float(lag), 3),
            "depth": depth,
            "tables": {
                name: {"live": live, "dead": dead, "bytes": size, "indexBytes": indexes}
                for name, live, dead, size, indexes in self._database.execute(_TABLES)
            },
        }

    def _row(self, sql: str) -> tuple[Any, ...]:
        return self._database.execute(sql).fetchone() or ()  # type: ignore[call-overload]  # our own text


def processes(pids: Mapping[str, list[int]]) -> dict[str, dict[str, float]]:
    """By role, over the processes named and all their descendants; one that ends meanwhile counts as nothing."""
    children = _children()
    found: dict[str, dict[str, float]] = {"memoryMb": {}, "files": {}, "processes": {}}
    for role, heads in pids.items():
        tree = [pid for head in heads for pid in _tree(head, children)]
        if tree:
            found["memoryMb"][role] = round(sum(memory_kb(pid) for pid in tree) / 1024, 2)
            found["files"][role] = sum(_open_files(pid) for pid in tree)
            found["processes"][role] = len(tree)
    return found


def memory_kb(pid: int) -> int:
    """Resident, each shared page divided by its users, without shared memory: PostgreSQL's buffers have a fixed size and
    only fill. Where that may not be read, what is resident and not shared memory."""
    for name, counted, less in (("smaps_rollup", "Pss:", "Pss_Shmem:"), ("status", "VmRSS:", "RssShmem:")):
        try:
            lines = [line.split() for line in (PROC / str(pid) / name).read_text().splitlines()]
        except OSError:
            continue
        values = {words[0]: int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}
        if counted in values:
            return values[counted] - values.get(less, 0)
    return 0


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for place in PROC.glob("[0-9]*/stat"):
        try:
            after_name = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(after_name[1])].append(int(place.parent.name))
    return found


def _tree(head: int, children: Mapping[int, list[int]]) -> list[int]:
    return [head, *(pid for child in children.get(head, []) for pid in _tree(child, children))]


def _open_files(pid: int) -> int:
    try:
        return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())
    except OSError:
        return 0
