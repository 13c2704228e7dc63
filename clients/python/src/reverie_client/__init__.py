"""Client of Reverie: images drawn from text and retrieved reference images.

    from reverie_client import Client

    with Client("http://127.0.0.1:7100") as client:
        drawn = client.generate("a small zunin on the left, snow", size=256, seed=7)
        drawn.image.save("zunin.png")

Everything that the contracts say can be said through :class:`GenerateRequest`, which :meth:`Client.draw` and :meth:`Client.stream` take,
and :class:`RetrieveRequest`, which :meth:`Client.retrieve` takes.
The messages are in ``reverie.generation.v1.generation_service_pb2`` and its neighbours.
"""

from reverie.generation.v1.generation_service_pb2 import GenerateRequest, GetCapabilitiesResponse
from reverie.retrieval.v1.retrieval_service_pb2 import RetrieveRequest

from ._client import Client
from ._connection import TlsSettings
from ._errors import FieldViolation, ReverieError
from ._results import Drawing, Drawn, Neighbour, Progress
from ._stream import Stream

__all__ = [
    "Client",
    "Drawing",
    "Drawn",
    "FieldViolation",
    "GenerateRequest",
    "GetCapabilitiesResponse",
    "Neighbour",
    "Progress",
    "RetrieveRequest",
    "ReverieError",
    "Stream",
    "TlsSettings",
]
