"""Calls of the public door."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import grpc

from reverie.generation.v1 import generation_service_pb2 as generation
from reverie.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from reverie.knowledge.v1.neighbour_pb2 import ImageDetail
from reverie.retrieval.v1 import retrieval_service_pb2 as retrieval
from reverie.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub

from ._connection import TlsSettings, channel
from ._errors import ReverieError
from ._images import ImageLike, encode
from ._results import Drawn, Neighbour, Progress
from ._stream import Call, Stream

_T = TypeVar("_T")

#: Statuses after which the same call may succeed.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Client:
    """A mesh, called at its public door. Safe to use from several threads; close it when it is done with."""

    def __init__(
        self,
        server: str,
        *,
        api_key: str | Callable[[], str] | None = None,
        tls: TlsSettings | None = None,
        timeout: float = 120.0,
        caller: str | None = None,
    ) -> None:
        """Make a client of the mesh at ``server``, which is ``http://HOST:PORT`` or ``https://HOST:PORT``. Connects with the first call.

        ``api_key`` is a key or a JSON Web Token, or a function that returns the one to use now, asked before every call; it is not sent
        to another machine without TLS. ``timeout`` is what a call has, in seconds, unless it says otherwise. ``caller`` names one of
        several callers behind this client: each gets an equal share.

        Raises:
            OSError: a file of ``tls`` cannot be read.
            ValueError: an argument that no call could be made with.

        """
        self._channel = channel(server, tls, with_key=api_key is not None)
        self._timeout = _seconds(timeout)
        self._api_key = (lambda: api_key) if isinstance(api_key, str) else api_key
        if isinstance(api_key, str):
            _header("api_key", api_key)
        self._caller = None if caller is None else _header("caller", caller)
        self._generation = GenerationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._retrieval = RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled, and no more can be made."""
        self._channel.close()

    def generate(
        self,
        prompt: str,
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
        attempts: int = 4,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Drawn:
        """Draw an image of ``prompt``, or ``count`` images.

        ``size`` is the side in pixels; the largest that the mesh draws if it is left out. Reference images come from
        ``knowledge_base``, as many as ``neighbours`` says (0 for none), or are ``references``: images with captions. ``initial`` is an
        image to start from, of which ``strength`` is drawn anew, 0 to 1, or what is white in ``mask``. With ``allow_degraded``, a
        smaller image will do if the time does not suffice.

        A request that a busy mesh refuses is sent again after the time that it names, ``attempts`` times in all, while there is time.

        Raises:
            ReverieError: the mesh refused, or could not be reached.
            ValueError: arguments that do not go together.

        """
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
        return self.draw(request, timeout=timeout, attempts=attempts, on_progress=on_progress)

    def draw(
        self,
        request: generation.GenerateRequest,
        *,
        timeout: float | None = None,
        attempts: int = 4,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Drawn:
        """Draw what ``request`` says: everything that the contract can say, sent and repeated as by :meth:`generate`.

        Raises:
            ReverieError: the mesh refused, or could not be reached.

        """

        def drawn(remaining: float) -> Drawn:
            call = self._begin(request, remaining)
            try:
                return Drawn.of(call, on_progress)
            finally:
                # The work ends at once if on_progress raises.
                call.cancel()

        return self._attempt(drawn, timeout, attempts)

    def stream(self, request: generation.GenerateRequest, *, timeout: float | None = None) -> Stream:
        """Draw once, and give every event as it comes. What fails is told by the stream, which can be cancelled from any thread."""
        return Stream(self._begin(request, self._timeout if timeout is None else _seconds(timeout)))

    def search(
        self,
        text: str,
        *,
        knowledge_base: str = "",
        limit: int = 8,
        images: bool = True,
        timeout: float | None = None,
        attempts: int = 4,
    ) -> list[Neighbour]:
        """Search a knowledge base without drawing, best first. Images are thumbnails of at most 512 pixels per side.

        Raises:
            ReverieError: the mesh refused, or could not be reached.

        """
        detail = ImageDetail.IMAGE_DETAIL_THUMBNAIL if images else ImageDetail.IMAGE_DETAIL_NONE
        request = retrieval.RetrieveRequest(
            knowledge_base=knowledge_base, text=text, limit=limit, images=detail
        )
        return self.retrieve(request, timeout=timeout, attempts=attempts)

    def retrieve(
        self, request: retrieval.RetrieveRequest, *, timeout: float | None = None, attempts: int = 4
    ) -> list[Neighbour]:
        """Search as ``request`` says: by text, image or vector, with filters and everything else that the contract can say.

        Raises:
            ReverieError: the mesh refused, or could not be reached.

        """

        def found(remaining: float) -> list[Neighbour]:
            answer: retrieval.RetrieveResponse = self._retrieval.Retrieve(
                request, timeout=remaining, metadata=self._metadata()
            )
            return [Neighbour.of(neighbour) for neighbour in answer.neighbours]

        return self._attempt(found, timeout, attempts)

    def capabilities(
        self, *, timeout: float | None = None, attempts: int = 4
    ) -> generation.GetCapabilitiesResponse:
        """Return what the mesh draws, takes and searches, its limits and defaults.

        Raises:
            ReverieError: the mesh could not be reached.

        """

        def ask(remaining: float) -> generation.GetCapabilitiesResponse:
            request = generation.GetCapabilitiesRequest()
            answer: generation.GetCapabilitiesResponse = self._generation.GetCapabilities(
                request, timeout=remaining, metadata=self._metadata()
            )
            return answer

        return self._attempt(ask, timeout, attempts)

    def _begin(self, request: generation.GenerateRequest, timeout: float) -> Call:
        call: Call = self._generation.Generate(request, timeout=timeout, metadata=self._metadata())
        return call

    def _metadata(self) -> list[tuple[str, str]]:
        metadata = []
        if self._api_key is not None:
            metadata.append(("authorization", f"Bearer {_header('api_key', self._api_key())}"))
        if self._caller is not None:
            metadata.append(("x-reverie-caller", self._caller))
        return metadata

    def _attempt(self, call: Callable[[float], _T], timeout: float | None, attempts: int) -> _T:
        """Call until it succeeds, or fails for good, or the time is over."""
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1 (got {attempts})")
        deadline = time.monotonic() + (self._timeout if timeout is None else _seconds(timeout))
        attempt = 1
        while True:
            try:
                return call(max(deadline - time.monotonic(), 0.0))
            except grpc.RpcError as raised:
                error = ReverieError.of(raised)
            wait = error.retry_after
            if wait is None and error.code is grpc.StatusCode.UNAVAILABLE:
                # 0.25 s, 0.75 s, 2.25 s: each shorter or longer by up to a half, so that many callers do not come back together.
                wait = 0.25 * 3 ** (attempt - 1) * random.uniform(0.5, 1.5)
            may_pass = error.code in _PASSING and attempt < attempts
            if not may_pass or wait is None or time.monotonic() + wait >= deadline:
                raise error
            time.sleep(wait)
            attempt += 1


def _seconds(timeout: float) -> float:
    """Return a time that a call can have."""
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be seconds, above 0 and finite (got {timeout})")
    return timeout


def _header(name: str, value: str) -> str:
    """Return what can be the value of a header."""
    if not value or not value.isascii() or not value.isprintable():
        raise ValueError(f"{name} must be printable ASCII characters, at least one")
    return value


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
