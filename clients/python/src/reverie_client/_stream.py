"""The events of one request, as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grpc

from reverie.generation.v1 import generation_service_pb2 as generation

from ._errors import ReverieError
from ._results import Drawn, Progress


class Call(Protocol):
    """A call of gRPC that answers with events."""

    def __iter__(self) -> Iterator[generation.GenerateResponse]:
        """Give each event when it comes."""
        ...

    def __next__(self) -> generation.GenerateResponse:
        """Wait for the next event."""
        ...

    def cancel(self) -> Any:
        """End the call."""
        ...


class Stream:
    """The events of one request. Cancelled when it is left as a context manager, or is no longer used.

    Raises:
        ReverieError: from the iteration: the mesh refused, could not be reached, or the stream was cancelled.

    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> generation.GenerateResponse:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise ReverieError.of(error) from error

    def cancel(self) -> None:
        """End the work in every stage. May be called from any thread; whoever waits for an event gets ``CANCELLED``."""
        self._call.cancel()

    def drawn(self, on_progress: Callable[[Progress], object] | None = None) -> Drawn:
        """Wait for the end, and return what :meth:`Client.generate` returns."""
        return Drawn.of(self, on_progress)
