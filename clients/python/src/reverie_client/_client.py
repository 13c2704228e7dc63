"""Calls of the public door."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from PIL import Image

from reverie.generation.v1 import generation_service_pb2 as generation
from reverie.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from reverie.knowledge.v1.neighbour_pb2 import ImageDetail
from reverie.retrieval.v1 import retrieval_service_pb2 as retrieval
from reverie.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from reverie.tensor.v1 import tensor_pb2 as tensor

from ._errors import ReverieError
from ._results import Drawing, Drawn, Neighbour, Progress

#: An image to send: encoded bytes, a file, or pixels, which are sent as PNG.
ImageLike = bytes | str | Path | Image.Image

_T = TypeVar("_T")

#: The most that an answer may have, bytes: a few images of the largest size.
_MAX_MESSAGE = 256 << 20
#: Statuses after which the same call may succeed.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
#: Kinds of pixels that PNG has.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class TlsSettings:
    """Whom to believe, and what to show, at an ``https://`` address. All are PEM files."""

    #: Authorities that have signed the certificate of the mesh. Default: those that gRPC knows.
    authorities: Path | str | None = None
    #: The certificate that is shown to a mesh that asks for one, and its key.
    certificate: Path | str | None = None
    private_key: Path | str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return them as gRPC wants them."""
        authorities, key, certificate = (
            None if path is None else Path(path).read_bytes()
            for path in (self.authorities, self.private_key, self.certificate)
        )
        return grpc.ssl_channel_credentials(authorities, key, certificate)


class Client:
    """A mesh, called at its public door. Safe to use from several threads; close it when it is done with."""

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        tls: TlsSettings | None = None,
        timeout: float = 120.0,
        caller: str | None = None,
    ) -> None:
        """Make a client of the mesh at ``server``, which is ``http://HOST:PORT`` or ``https://HOST:PORT``. Connects with the first call.

        ``api_key`` is a key or a JSON Web Token; it is not sent to another machine without TLS. ``timeout`` is what a call has, in
        seconds, unless it says otherwise. ``caller`` names one of several callers behind this client: each gets an equal share.
        """
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
            raise ValueError(f"server must be http://HOST:PORT or https://HOST:PORT (got {server!r})")
        if api_key and url.scheme == "http" and url.hostname not in _LOCAL:
            raise ValueError("an api_key is sent to other machines by https:// alone")
        port = url.port or (443 if url.scheme == "https" else 80)
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
        ]
        if url.scheme == "https":
            credentials = (tls or TlsSettings()).credentials()
            self._channel = grpc.secure_channel(f"{host}:{port}", credentials, options)
        else:
            self._channel = grpc.insecure_channel(f"{host}:{port}", options)
        self._timeout = timeout
        self._metadata: list[tuple[str, str | bytes]] = []
        if api_key:
            self._metadata.append(("authorization", f"Bearer {api_key}"))
        if caller:
            self._metadata.append(("x-reverie-caller", caller))
        self._generation = GenerationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._retrieval = RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._channel.close()

    def generate(
        self,
        prompt: str | generation.GenerateRequest,
        *,
        size: int | None = None,
        seed: int | None = None,
        count: int | None = None,
        negative_prompt: str | None = None,
        knowledge_base: str = "",
        neighbours: int | None = None,
        references: Sequence[tuple[ImageLike, str]] | Mapping[str, ImageLike] = (),
        initial: ImageLike | None = None,
        mask: ImageLike | None = None,
        strength: float | None = None,
        steps: int | None = None,
        allow_degraded: bool = False,
        timeout: float | None = None,
        attempts: int = 3,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Drawn:
        """Draw an image of ``prompt``, or ``count`` images.

        ``size`` is the side in pixels; the largest that the mesh draws if it is left out. Reference images come from
        ``knowledge_base``, as many as ``neighbours`` says (0 for none), or are ``references``: images with captions. ``initial`` is an
        image to start from, of which ``strength`` is drawn anew, 0 to 1, or what is white in ``mask``. With ``allow_degraded``, a
        smaller image will do if the time does not suffice.

        A request that a busy mesh refuses is sent again after the time that it names, ``attempts`` times in all, while there is time.
        ``prompt`` may be a whole ``GenerateRequest``; then nothing else is said of the images.

        Raises:
            ReverieError: the mesh refused, or could not be reached.
            ValueError: arguments that do not go together.

        """
        if isinstance(prompt, generation.GenerateRequest):
            request = prompt
        else:
            request = generation.GenerateRequest(
                prompt=prompt,
                size=size,
                seed=seed,
                count=count,
                negative_prompt=negative_prompt,
                allow_degraded=allow_degraded,
            )
            _remember(request, knowledge_base, neighbours, references)
            if steps is not None:
                request.base_sampling.steps = steps
            if initial is not None:
                request.initial.image.CopyFrom(encode(initial))
                if strength is not None:
                    request.initial.strength = strength
                if mask is not None:
                    request.initial.mask.CopyFrom(encode(mask))
            elif mask is not None or strength is not None:
                raise ValueError("mask and strength need an initial image")

        def draw(remaining: float) -> Drawn:
            drawings: dict[int, Drawing] = {}
            found, completed = generation.NeighboursFound(), None
            # Closed, so that the work ends at once if on_progress raises.
            with closing(self._events(request, remaining)) as events:
                for event in events:
                    kind = event.WhichOneof("event")
                    if kind == "started":
                        # Again if the models were replaced: all images are begun anew.
                        drawings, found = {}, generation.NeighboursFound()
                    elif kind == "neighbours":
                        found = event.neighbours
                    elif kind == "image":
                        drawings[event.image.index] = Drawing.of(event.image)
                    elif kind == "progress" and on_progress is not None:
                        on_progress(Progress.of(event.progress))
                    elif kind == "completed":
                        completed = event.completed
            if completed is None or not drawings:
                raise ReverieError(grpc.StatusCode.INTERNAL, "the mesh ended without an image")
            return Drawn(
                tuple(drawings[index] for index in sorted(drawings)),
                tuple(map(Neighbour.of, found.neighbours)),
                tuple(found.unmatched_words),
                completed,
            )

        return self._attempt(draw, timeout, attempts)

    def stream(
        self, request: generation.GenerateRequest, *, timeout: float | None = None
    ) -> Generator[generation.GenerateResponse, None, None]:
        """Draw, and give every event as it comes. Closing the iterator cancels the work in every stage.

        Raises:
            ReverieError: the mesh refused, or could not be reached.

        """
        yield from self._events(request, self._timeout if timeout is None else timeout)

    def search(
        self,
        query: str | retrieval.RetrieveRequest,
        *,
        knowledge_base: str = "",
        limit: int = 8,
        images: bool = True,
        timeout: float | None = None,
        attempts: int = 3,
    ) -> list[Neighbour]:
        """Search a knowledge base without drawing, best first. Images are thumbnails of at most 512 pixels per side.

        Raises:
            ReverieError: the mesh refused, or could not be reached.

        """
        if isinstance(query, retrieval.RetrieveRequest):
            request = query
        else:
            detail = ImageDetail.IMAGE_DETAIL_THUMBNAIL if images else ImageDetail.IMAGE_DETAIL_NONE
            request = retrieval.RetrieveRequest(
                knowledge_base=knowledge_base, text=query, limit=limit, images=detail
            )

        def retrieve(remaining: float) -> list[Neighbour]:
            answer: retrieval.RetrieveResponse = self._retrieval.Retrieve(
                request, timeout=remaining, metadata=self._metadata
            )
            return [Neighbour.of(found) for found in answer.neighbours]

        return self._attempt(retrieve, timeout, attempts)

    def capabilities(self, *, timeout: float | None = None) -> generation.GetCapabilitiesResponse:
        """Return what the mesh draws, takes and searches, its limits and defaults.

        Raises:
            ReverieError: the mesh could not be reached.

        """

        def ask(remaining: float) -> generation.GetCapabilitiesResponse:
            request = generation.GetCapabilitiesRequest()
            answer: generation.GetCapabilitiesResponse = self._generation.GetCapabilities(
                request, timeout=remaining, metadata=self._metadata
            )
            return answer

        return self._attempt(ask, timeout, 3)

    def _events(
        self, request: generation.GenerateRequest, timeout: float
    ) -> Generator[generation.GenerateResponse, None, None]:
        call = self._generation.Generate(request, timeout=timeout, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise ReverieError.of(error) from error
        finally:
            call.cancel()

    def _attempt(self, call: Callable[[float], _T], timeout: float | None, attempts: int) -> _T:
        """Call until it succeeds, or fails for good, or the time is over."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        for attempt in range(1, attempts + 1):
            try:
                return call(max(deadline - time.monotonic(), 0.0))
            except grpc.RpcError as raised:
                error = ReverieError.of(raised)
            except ReverieError as raised:
                error = raised
            wait = error.retry_after
            if wait is None and error.code is grpc.StatusCode.UNAVAILABLE:
                wait = 0.1 * 2**attempt
            may_pass = error.code in _PASSING and wait is not None and attempt < attempts
            if not may_pass or wait is None or time.monotonic() + wait >= deadline:
                raise error
            time.sleep(wait)
        raise ValueError(f"attempts must be at least 1 (got {attempts})")


def encode(image: ImageLike) -> tensor.Image:
    """Return the message for an image."""
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        # Kinds of pixels that PNG has not, such as CMYK, are sent as RGB.
        kind = image if image.mode in _PNG_MODES else image.convert("RGB")
        kind.save(buffer, "PNG")
        return tensor.Image(data=buffer.getvalue())
    if isinstance(image, (str, Path)):
        return tensor.Image(data=Path(image).read_bytes())
    return tensor.Image(data=image)


def _remember(
    request: generation.GenerateRequest,
    knowledge_base: str,
    neighbours: int | None,
    references: Sequence[tuple[ImageLike, str]] | Mapping[str, ImageLike],
) -> None:
    """Say where reference images come from."""
    pairs = (
        [(image, caption) for caption, image in references.items()]
        if isinstance(references, Mapping)
        else references
    )
    messages = [generation.Reference(image=encode(image), caption=caption) for image, caption in pairs]
    if neighbours == 0 and not messages:
        if knowledge_base:
            raise ValueError("neighbours=0 uses no knowledge base")
        request.none.SetInParent()
    elif messages and not knowledge_base and not neighbours:
        request.references.references.extend(messages)
    elif messages or knowledge_base or neighbours is not None:
        request.retrieval.knowledge_base = knowledge_base
        request.retrieval.references.extend(messages)
        if neighbours is not None:
            request.retrieval.neighbours = neighbours
