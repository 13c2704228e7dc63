from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from reverie.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from reverie_client import Client, GetCapabilitiesResponse, ReverieError, TlsSettings


class Door(GenerationServiceServicer):
    """Says what it can do, and keeps what came with the call."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def GetCapabilities(self, request: object, context: grpc.ServicerContext) -> GetCapabilitiesResponse:  # noqa: N802
        metadata = dict(context.invocation_metadata())
        self.keys.append(str(metadata.get("authorization")))
        return GetCapabilitiesResponse(base_size=64)


def listen(address: str, door: Door) -> grpc.Server:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_GenerationServiceServicer_to_server(door, server)  # type: ignore[no-untyped-call]
    assert server.add_insecure_port(address)
    server.start()
    return server


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "server",
    [
        "images.example",
        "ftp://images.example:80",
        "http://:80",
        "http://images.example:0",
        "http://images.example:x",
        "http://images.example:99999",
        "http://someone@images.example:80",
        "http://images.example:80/path",
        "http://images.example:80?query",
        "http://images.example:80#fragment",
    ],
)
def test_what_is_no_address_is_told(server: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Client(server)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client("http://images.example:80", api_key="rvk_x"), "https"),
        (lambda: Client("http://images.example:80", api_key=lambda: "rvk_x"), "https"),
        (lambda: Client("http://127.0.0.1:1", tls=TlsSettings()), "https"),
        (lambda: Client("http://127.0.0.1:1", api_key=""), "api_key"),
        (lambda: Client("http://127.0.0.1:1", api_key="rvk_x\nother: y"), "api_key"),
        (lambda: Client("http://127.0.0.1:1", caller="Zoë"), "caller"),
        (lambda: Client("http://127.0.0.1:1", timeout=0), "timeout"),
        (lambda: Client("http://127.0.0.1:1", timeout=float("inf")), "timeout"),
        (lambda: Client("http://127.0.0.1:1", timeout=float("nan")), "timeout"),
        (lambda: Client("http://127.0.0.1:1").capabilities(timeout=-1), "timeout"),
        (lambda: Client("http://127.0.0.1:1").capabilities(attempts=0), "attempts"),
        (lambda: TlsSettings(certificate="client.crt"), "private_key"),
        (lambda: TlsSettings(private_key="client.key"), "private_key"),
        (lambda: TlsSettings(authorities=__file__).credentials(), "PEM"),
    ],
)
def test_what_no_call_could_be_made_with_is_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pem"):
        Client("https://127.0.0.1:1", tls=TlsSettings(authorities=tmp_path / "none.pem"))


def test_a_key_of_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    door, proxied = Door(), threading.Event()
    port = free_port()
    server = listen(f"127.0.0.1:{port}", door)
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()

        def accept() -> None:
            try:
                proxy.accept()
                proxied.set()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        with Client(f"http://127.0.0.1:{port}", api_key="rvk_secret", timeout=5) as client:
            assert client.capabilities().base_size == 64
        assert not proxied.is_set()
    assert door.keys == ["Bearer rvk_secret"]
    server.stop(None)


def test_a_mesh_that_is_just_restarted_is_called_again() -> None:
    door, port, servers = Door(), free_port(), list[grpc.Server]()
    with Client(f"http://127.0.0.1:{port}", timeout=20) as client:
        with pytest.raises(ReverieError):
            client.capabilities(attempts=1)
        later = threading.Timer(0.2, lambda: servers.append(listen(f"127.0.0.1:{port}", door)))
        later.start()
        assert client.capabilities().base_size == 64
        later.join()
    servers[0].stop(None)


def test_a_refused_connection_is_not_remembered_for_long() -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", timeout=20) as client:
        with pytest.raises(ReverieError):
            client.capabilities(attempts=1)
        server = listen(f"127.0.0.1:{port}", Door())
        time.sleep(0.4)
        assert client.capabilities(attempts=1).base_size == 64
    server.stop(None)


def test_a_mesh_that_is_not_there_is_told_within_the_time() -> None:
    begun = time.monotonic()
    with Client("http://127.0.0.1:9", timeout=2) as nowhere, pytest.raises(ReverieError) as raised:
        nowhere.capabilities()
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - begun < 2
