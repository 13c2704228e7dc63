"""What comes of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import grpc
from PIL import Image

from reverie.generation.v1 import generation_service_pb2 as generation
from reverie.knowledge.v1 import neighbour_pb2
from reverie.knowledge.v1.selection_pb2 import MetadataValue

from ._errors import ReverieError
from ._images import decode


def _value(said: MetadataValue) -> str | float | bool | None:
    kind = said.WhichOneof("kind")
    if kind is None:
        return None
    value: str | float | bool = getattr(said, kind)
    return value


@dataclass(frozen=True, eq=False)
class Drawing:
    """One image."""

    image: Image.Image
    #: As it was sent: PNG unless the request asks for another format.
    data: bytes = field(repr=False)
    index: int
    #: A request with this seed, and otherwise the same, draws it again.
    seed: int
    #: Whether it is smaller than was asked for, because the time did not suffice.
    degraded: bool

    @classmethod
    def of(cls, drawn: generation.GeneratedImage) -> Drawing:
        """Return the image of an event."""
        data = drawn.image.data
        return cls(decode(data), data, drawn.index, drawn.seed, drawn.degraded)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A reference image that was found, or that the caller gave."""

    id: str
    caption: str
    #: How well it matches, -1 to 1.
    score: float
    attribution: str
    metadata: dict[str, str | float | bool | None]
    #: In the detail that was asked for.
    image: Image.Image | None

    @classmethod
    def of(cls, found: neighbour_pb2.Neighbour) -> Neighbour:
        """Return the neighbour of a message."""
        image = decode(found.image.data) if found.image.data else None
        metadata = {key: _value(said) for key, said in found.metadata.items()}
        return cls(found.id, found.caption, found.score, found.attribution, metadata, image)


@dataclass(frozen=True)
class Progress:
    """A step was done."""

    #: ``encode``, ``retrieve``, ``base``, ``super_resolution``, ``encode_picture`` or ``decode``; ``unknown`` if this client
    #: is older than the mesh.
    stage: str
    step: int
    steps: int
    #: The level of super-resolution, from 1; 0 for other stages.
    level: int
    #: Which image, from 0.
    index: int

    @classmethod
    def of(cls, progress: generation.Progress) -> Progress:
        """Return the progress of an event."""
        known = progress.stage in generation.Stage.values()
        stage = generation.Stage.Name(progress.stage) if known else "unknown"
        stage = stage.removeprefix("STAGE_").lower()
        return cls(stage, progress.step, progress.steps, progress.level, progress.index)


@dataclass(frozen=True, eq=False)
class Drawn:
    """All that came of a request."""

    #: By index.
    drawings: tuple[Drawing, ...]
    neighbours: tuple[Neighbour, ...]
    #: What the text names and nothing in the knowledge base has.
    unmatched_words: tuple[str, ...]
    #: What it names and nothing has, either, but for a letter: by word, what was looked for in its place.
    misspelt_words: dict[str, tuple[str, ...]]
    #: Times, models and guidance: what is needed to check the images and to draw them again.
    completed: generation.Completed = field(repr=False)

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self.drawings[0].image

    @classmethod
    def of(
        cls,
        events: Iterable[generation.GenerateResponse],
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Drawn:
        """Return what the events of a request come to.

        Raises:
            ReverieError: they end without an image.

        """
        drawings: dict[int, Drawing] = {}
        found, completed = generation.NeighboursFound(), None
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
        return cls(
            tuple(drawings[index] for index in sorted(drawings)),
            tuple(map(Neighbour.of, found.neighbours)),
            tuple(found.unmatched_words),
            {misspelt.word: tuple(misspelt.read_as) for misspelt in found.misspelt_words},
            completed,
        )
