"""How a mesh is reached: its address, whom to believe, and how long to keep trying."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import grpc

#: The most that a message may have, bytes: a few images of the largest size.
_MAX_MESSAGE = 256 << 20
_LOCAL = ("127.0.0.1", "::1", "localhost")
_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    # All addresses of a name are used.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Without these a call that is made again within a second fails from memory, without a new try.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A peer that is gone without a word is noticed while a call waits for it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]


@dataclass(frozen=True)
class TlsSettings:
    """Whom to believe, and what to show, at an ``https://`` address. All are PEM files.

    Raises:
        ValueError: a certificate without its private key, or a key without its certificate.

    """

    #: Authorities that have signed the certificate of the mesh. Default: those that gRPC knows.
    authorities: PathLike[str] | str | None = None
    #: The certificate that is shown to a mesh that asks for one, and its key.
    certificate: PathLike[str] | str | None = None
    private_key: PathLike[str] | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together: name both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return them as gRPC wants them.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file holds no PEM.

        """
        return grpc.ssl_channel_credentials(
            _pem(self.authorities), _pem(self.private_key), _pem(self.certificate)
        )


def _pem(path: PathLike[str] | str | None) -> bytes | None:
    if path is None:
        return None
    content = Path(path).read_bytes()
    if b"-----BEGIN " not in content:
        raise ValueError(f"{path} holds nothing in PEM")
    return content


def channel(server: str, tls: TlsSettings | None, *, with_key: bool) -> grpc.Channel:
    """Return the channel to ``server``, which connects with the first call.

    Raises:
        OSError: a file of ``tls`` cannot be read.
        ValueError: ``server`` is no address, or not one that a key may be sent to.

    """
    url = urlsplit(server)
    host, port = _host(url), _port(url)
    if host is None or port is None:
        raise ValueError(f"server must be http://HOST:PORT or https://HOST:PORT (got {server!r})")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if url.scheme == "https":
        return grpc.secure_channel(target, (tls or TlsSettings()).credentials(), _OPTIONS)
    if tls is not None:
        raise ValueError("tls is for https:// addresses")
    if with_key and host not in _LOCAL:
        raise ValueError("an api_key is sent to other machines by https:// alone")
    # What is not encrypted goes straight to the mesh, and through no proxy that the environment names.
    return grpc.insecure_channel(target, [*_OPTIONS, ("grpc.enable_http_proxy", 0)])


def _host(url: SplitResult) -> str | None:
    beside = (url.path.strip("/"), url.query, url.fragment, url.username, url.password)
    return url.hostname if url.scheme in ("http", "https") and not any(beside) else None


def _port(url: SplitResult) -> int | None:
    try:
        port = url.port
    except ValueError:
        return None
    return (443 if url.scheme == "https" else 80) if port is None else port or None
