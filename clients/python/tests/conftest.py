"""A mesh with TLS and API keys, started for the tests: `REVERIE` names the program, such as target/debug/reverie."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from reverie_client import Client, TlsSettings

ROOT = Path(__file__).parents[3]
PROGRAM = os.environ.get("REVERIE", str(ROOT / "target" / "debug" / "reverie"))


@dataclass
class Mesh:
    server: str
    authorities: Path
    key: str
    searcher_key: str


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.private_key_pem.write_to_path(folder / "door.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "door.crt", append=True)

    def key(name: str, *scopes: str) -> str:
        arguments = [argument for scope in scopes for argument in ("--scope", scope)]
        command = [PROGRAM, "keys", "new", name, "--file", str(folder / "keys.toml"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    keys = key("tests", "generate", "retrieve"), key("searcher", "retrieve")
    settings = {
        "server.tls.certificate": folder / "door.crt",
        "server.tls.private_key": folder / "door.key",
        "access.keys": folder / "keys.toml",
    }
    command = [PROGRAM, "serve", "--listen", "localhost:0"]
    for name, value in settings.items():
        command += ["--set", f"pipeline.{name}={value}"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), (folder / "log").read_text()
        port = line.strip().rsplit(":", 1)[1]
        yield Mesh(f"https://localhost:{port}", folder / "authority.pem", *keys)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    with Client(mesh.server, api_key=mesh.key, tls=TlsSettings(authorities=mesh.authorities)) as client:
        yield client
