"""The connection's own troubles: what pauses it, what lets it rest, and answers no PEMS should give (D11, D12, S8)."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pems_sync.client import secrets as vault
from pems_sync.client import transport
from pems_sync.client.base import (
    BatchAbsent,
    BatchRefused,
    Fault,
    FaultKind,
    Missing,
    PemsRecord,
    ReadFailed,
    Rejected,
    Unknown,
    Write,
)
from pems_sync.client.gateway import GatewayClient
from pems_sync.client.secrets import Credentials
from pems_sync.clock import database_now
from pems_sync.models import JournalEntry
from pems_sync.services import connections
from pems_sync.states import State

# ---------------------------------------------------------------- pauses and rests


@pytest.fixture(autouse=True)
def _fresh_secrets(monkeypatch):
    monkeypatch.setattr(vault, "_cached", None)


@pytest.mark.parametrize("kind", ["status_401", "status_403", "status_404_html"])
def test_refused_credentials_and_a_wrong_address_pause_the_connection_with_a_reason(engine, kind, portarthur):
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script(kind)
    engine.send()
    connection = engine.connection()
    assert connection.paused_at is not None
    assert kind[7:10] in connection.paused_reason
    engine.skip_waits()
    assert engine.send() == 0
    assert engine.row(row).attempts == 0
    paused = JournalEntry.objects.filter(wire_type="QUEUE_PAUSED")
    assert {entry.organization.slug for entry in paused} == {"org-rio", "org-portarthur"}, "both share it"


def test_a_401_with_a_rotated_secret_does_not_pause(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="1")
    vault.secrets().fetch("pems-sync/demo")
    monkeypatch.setenv("PEMS_PASSWORD", "rotated")
    engine.sandbox.script("status_401")
    engine.send()
    assert engine.connection().paused_at is None
    engine.settle()
    assert engine.state(row) is State.CONFIRMED


def test_credentials_that_cannot_be_fetched_pause_the_connection_and_nothing_spins(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="1")
    monkeypatch.delenv("PEMS_USER")
    vault._cached = None
    engine.send()
    assert "PEMS_USER" in engine.connection().paused_reason
    assert (engine.state(row), engine.row(row).ledger.count()) == (State.QUEUED, 0)
    assert engine.send() == 0


def test_a_pause_is_told_once(engine):
    connection = engine.connection()
    for _ in range(3):
        connections.faulted(connection, Fault(FaultKind.ADDRESS, "wrong"))
    assert JournalEntry.objects.filter(wire_type="QUEUE_PAUSED", organization=engine.organization).count() == 1


def test_an_unreachable_pems_lets_the_connection_rest_a_second(engine):
    connection = engine.connection()
    assert connections.faulted(connection, Fault(FaultKind.UNREACHABLE, "refused")) == 1
    assert round((engine.connection().held_until - database_now()).total_seconds()) == 1


def test_a_503_without_retry_after_is_no_reason_to_rest(engine):
    assert connections.faulted(engine.connection(), Fault(FaultKind.UNAVAILABLE, "503")) == 1
    assert engine.connection().held_until is None
    assert connections.faulted(engine.connection(), Fault(FaultKind.UNAVAILABLE, "503", 7.0)) == 7
    assert engine.connection().held_until is not None


def test_a_rest_is_never_shortened(engine):
    connection = engine.connection()
    connections.rest(connection, seconds=60, reason="long")
    connections.rest(connection, seconds=1, reason="short")
    assert engine.connection().held_until - database_now() > timedelta(seconds=50)
    assert engine.connection().held_reason == "long"


# ---------------------------------------------------------------- a peculiar server


class Peculiar(ThreadingHTTPServer):
    """Answers every request with the bytes it was told, and remembers what it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says: list[bytes] = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]
        self.pause_seconds = 0.0
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answers(self, status: int, body: bytes = b"", **headers: str) -> None:
        given = [f"{name}: {value}" for name, value in headers.items()]
        lines = [f"HTTP/1.1 {status} X", "Connection: close", f"Content-Length: {len(body)}", *given]
        self.says = ["\r\n".join([*lines, "", ""]).encode() + body]


class _Handler(BaseHTTPRequestHandler):
    server: Peculiar

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), body))
        with suppress(OSError):
            for piece in self.server.says:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(self.server.pause_seconds)
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_any

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def peculiar() -> Iterator[Peculiar]:
    server = Peculiar()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(peculiar: Peculiar) -> GatewayClient:
    credentials = Credentials("engine", "canary-password")
    return GatewayClient(base_url=peculiar.url + "/", tenant="DEMO", credentials=credentials, total_seconds=0.6)


def write(pfa_id="PFA-1", operation="UPDATE", reason="why"):
    changes = {"isDiscontinued": True} if operation == "DELETE" else {"model": "1"}
    return Write(uuid4(), operation, pfa_id, "RIO", 4, changes, "rio-planner", reason)


ONE, TWO = [write()], [write(), write("PFA-2")]
NOT_FOUND = b'{"error":"NOT_FOUND"}'


@pytest.mark.parametrize(
    ("status", "body", "single", "batch"),
    [
        (401, b"", FaultKind.CREDENTIALS, FaultKind.CREDENTIALS),
        (403, b"", FaultKind.CREDENTIALS, FaultKind.CREDENTIALS),
        (404, b"<html>", FaultKind.ADDRESS, BatchAbsent),
        (404, NOT_FOUND, "Gone", BatchAbsent),
        (405, b"", FaultKind.ADDRESS, BatchAbsent),
        (302, b"", FaultKind.ADDRESS, FaultKind.ADDRESS),
        (429, b"", FaultKind.THROTTLED, FaultKind.THROTTLED),
        (503, b'{"results":[]}', FaultKind.UNAVAILABLE, FaultKind.UNAVAILABLE),
        (400, b"", Rejected, BatchRefused),
        (413, b"", Rejected, BatchRefused),
        (409, b"", "Drifted", Unknown),
        (500, b"", Unknown, Unknown),
        (504, b"", Unknown, Unknown),
        (200, b"", Unknown, Unknown),
        (200, b"\xff{", Unknown, Unknown),
        (200, b'{"results":{}}', Unknown, Unknown),
        (201, b"{}", Unknown, Unknown),
    ],
)
def test_every_status_of_a_request(client, peculiar, status, body, single, batch):
    peculiar.answers(status, body, Location="http://127.0.0.1:1/elsewhere")
    for writes, expected in ((ONE, single), (TWO, batch)):
        said = client.push(writes).outcomes
        first = said[0] if isinstance(said, tuple) else said
        assert (first.kind if isinstance(first, Fault) else first) == expected or type(first).__name__ == getattr(
            expected, "__name__", expected
        )
    assert len(peculiar.seen) == 2, "nothing is resent and no redirect is followed"


def test_results_are_taken_by_record_and_two_for_one_prove_nothing(client, peculiar):
    result = b'{"pfaId":"PFA-%d","status":422,"error":"E"}'
    peculiar.answers(200, b'{"results":[' + result % 2 + b"," + result % 1 + b"]}")
    assert [type(each) for each in client.push(TWO).outcomes] == [Rejected, Rejected]
    peculiar.answers(200, b'{"results":[' + result % 1 + b"," + result % 1 + b',5,{"pfaId":"PFA-2","status":"x"}]}')
    reply = client.push(TWO)
    assert [type(each) for each in reply.outcomes] == [Unknown, Unknown]
    assert len(reply.excerpts) == 2


def test_an_answer_that_breaks_off_is_unknown(client, peculiar):
    peculiar.says = [b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"success":']
    assert isinstance(client.push(ONE).outcomes[0], Unknown)
    peculiar.says = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
    assert isinstance(client.push(ONE).outcomes[0], Unknown)
    peculiar.says = [b"no http at all\r\n\r\n"]
    assert isinstance(client.push(ONE).outcomes[0], Unknown)
    peculiar.says = []
    assert isinstance(client.push(ONE).outcomes[0], Unknown)


def test_an_answer_that_drips_is_given_up_at_the_total_deadline(client, peculiar):
    peculiar.says = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 60]
    peculiar.pause_seconds = 0.1
    begun = time.monotonic()
    assert isinstance(client.push(ONE).outcomes[0], Unknown)
    assert time.monotonic() - begun < 1.5


def test_headers_that_drip_are_given_up_too(client, peculiar):
    peculiar.says = [b"HTTP/1.1 200 OK\r\n", *[b"X"] * 60]
    peculiar.pause_seconds = 0.1
    begun = time.monotonic()
    assert isinstance(client.push(ONE).outcomes[0], Unknown)
    assert time.monotonic() - begun < 1.5


def test_an_answer_beyond_all_bounds_is_given_up(client, peculiar, monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_LIMIT_BYTES", 1000)
    peculiar.answers(200, b"x" * 200_000)
    assert isinstance(client.push(ONE).outcomes[0], Unknown)


def test_ids_and_reasons_are_escaped_in_an_address(client, peculiar):
    client.push([write("PFÄ/1?x=&#", "DELETE", reason="a&version=9 ü")])
    method, path, headers, _ = peculiar.seen[0]
    assert method == "DELETE"
    assert path.startswith(
        "/api/pems/pfa/PF%C3%84%2F1%3Fx%3D%26%23?version=4&modifiedBy=rio-planner&changeReason=a%26version%3D9"
    )
    assert headers["Idempotency-Key"]


def test_every_request_carries_tenant_organization_and_an_id_of_its_own(client, peculiar):
    client.push(ONE)
    client.read(organization_code="RIO", pfa_id="PFA-1")
    client.health(organization_code="RIO")
    client.page(organization_code="RIO", updated_since=datetime(2026, 1, 31, 10, tzinfo=UTC), cursor="c&d")
    heads = [headers for _, _, headers, _ in peculiar.seen]
    assert all((each["tenant"], each["organization"]) == ("DEMO", "RIO") for each in heads)
    assert len({each["X-Request-Id"] for each in heads}) == 4
    assert "updatedSince=2026-01-31T10%3A00%3A00Z" in peculiar.seen[3][1]
    assert "cursor=c%26d" in peculiar.seen[3][1]


def test_an_api_key_goes_in_its_own_header(peculiar):
    client = GatewayClient(
        base_url=peculiar.url, tenant="DEMO", credentials=Credentials(api_key="key"), total_seconds=1
    )
    client.push(ONE)
    headers = peculiar.seen[0][2]
    assert headers["X-API-Key"] == "key"
    assert "Authorization" not in headers


@pytest.mark.parametrize("key", ["ключ", "a\nb"])
def test_a_key_that_no_header_can_carry_is_a_fault_and_names_no_secret(peculiar, key):
    client = GatewayClient(base_url=peculiar.url, tenant="DEMO", credentials=Credentials(api_key=key), total_seconds=1)
    fault = client.push(ONE).outcomes
    assert isinstance(fault, Fault)
    assert key not in fault.message
    assert peculiar.seen == []


def test_reads_say_missing_failed_or_what_they_found(client, peculiar):
    peculiar.answers(404, NOT_FOUND)
    assert client.read(organization_code="RIO", pfa_id="PFA-1") == Missing()
    for status, body in ((200, b"[]"), (200, b""), (500, b""), (400, b"{}")):
        peculiar.answers(status, body)
        found = client.read(organization_code="RIO", pfa_id="PFA-1")
        assert isinstance(found, ReadFailed)
        assert found.fault is None
    peculiar.answers(401)
    assert client.read(organization_code="RIO", pfa_id="PFA-1").fault.kind is FaultKind.CREDENTIALS
    assert isinstance(client.health(organization_code="RIO"), ReadFailed)
    peculiar.answers(200, b'{"pfaId":"PFA-1","organizationCode":"RIO","version":4}')
    assert isinstance(client.read(organization_code="RIO", pfa_id="PFA-1"), PemsRecord)
    assert client.health(organization_code="RIO") is None
    peculiar.says = []
    assert isinstance(client.read(organization_code="RIO", pfa_id="PFA-1"), ReadFailed)


def test_an_address_where_nobody_listens_is_unreachable(peculiar):
    peculiar.server_close()
    client = GatewayClient(
        base_url="http://127.0.0.1:1", tenant="D", credentials=Credentials("u", "p"), total_seconds=1
    )
    fault = client.push(ONE).outcomes
    assert (fault.kind, "127.0.0.1:1" in fault.message) == (FaultKind.UNREACHABLE, True)
    read = client.read(organization_code="RIO", pfa_id="PFA-1")
    assert read.fault.kind is FaultKind.UNREACHABLE


def test_an_address_that_swallows_packets_is_unreachable(client, monkeypatch):
    """Nothing was sent: the connection was never made."""
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.2)
    swallowing = socket.socket()
    swallowing.bind(("127.0.0.1", 0))
    swallowing.listen(0)
    filling = [socket.socket() for _ in range(3)]
    for each in filling:
        each.setblocking(False)
        each.connect_ex(swallowing.getsockname())
    client.base_url = f"http://127.0.0.1:{swallowing.getsockname()[1]}"
    fault = client.push(ONE).outcomes
    for each in (*filling, swallowing):
        each.close()
    assert fault.kind is FaultKind.UNREACHABLE


def test_an_answer_that_never_comes_is_unknown(client, peculiar):
    peculiar.says, peculiar.pause_seconds = [b""], 2.0
    assert isinstance(client.push(ONE).outcomes[0], Unknown)


def test_size_is_measured_as_it_is_sent(client, peculiar):
    client.push(TWO)
    assert client.push_bytes(TWO) == len(peculiar.seen[0][3])


# ---------------------------------------------------------------- TLS


@pytest.fixture
def certificate(tmp_path) -> Path:
    """Key and certificate of 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = built.add_extension(address, critical=False).sign(key, hashes.SHA256())
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed.public_bytes(Encoding.PEM)
    )
    return file


@pytest.fixture
def behind_tls(peculiar, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    peculiar.socket = context.wrap_socket(peculiar.socket, server_side=True, suppress_ragged_eofs=False)
    url = f"https://127.0.0.1:{peculiar.server_port}"
    return GatewayClient(base_url=url, tenant="DEMO", credentials=Credentials("u", "p"), total_seconds=2)


def test_a_certificate_that_is_not_trusted_is_a_fault(behind_tls, peculiar):
    fault = behind_tls.push(ONE).outcomes
    assert (fault.kind, peculiar.seen) == (FaultKind.UNREACHABLE, [])


def test_a_tls_connection_that_breaks_after_the_request_was_sent_is_unknown(behind_tls, peculiar, certificate):
    """Cut without a goodbye: it looks like a TLS error, but the bytes had left."""
    behind_tls._session.verify = str(certificate)
    peculiar.answers(422, b'{"error":"E"}')
    assert isinstance(behind_tls.push(ONE).outcomes[0], Rejected)
    peculiar.says = []
    assert isinstance(behind_tls.push(ONE).outcomes[0], Unknown)
    peculiar.says = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"]
    assert isinstance(behind_tls.push(ONE).outcomes[0], Unknown)
    assert len(peculiar.seen) == 3
