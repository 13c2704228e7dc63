"""What comes of a call."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from reverie.generation.v1 import generation_service_pb2 as generation
from reverie.knowledge.v1 import neighbour_pb2
from reverie.knowledge.v1.selection_pb2 import MetadataValue


def decode(data: bytes) -> Image.Image:
    """Return the image in ``data``, which is PNG, JPEG or WebP, with its pixels loaded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _value(said: MetadataValue) -> str | float | bool | None:
    kind = said.WhichOneof("kind")
    if kind is None:
        return None
    value: str | float | bool = getattr(said, kind)
    return value


@dataclass(frozen=True)
class Drawing:
    """One image."""

    image: Image.Image
    #: As it was sent: PNG unless the request asks for another format.
    data: bytes
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


@dataclass(frozen=True)
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

    #: ``encode``, ``retrieve``, ``base``, ``super_resolution``, ``encode_picture`` or ``decode``.
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
        stage = generation.Stage.Name(progress.stage).removeprefix("STAGE_").lower()
        return cls(stage, progress.step, progress.steps, progress.level, progress.index)


@dataclass(frozen=True)
class Drawn:
    """All that came of a request."""

    #: By index.
    drawings: tuple[Drawing, ...]
    neighbours: tuple[Neighbour, ...]
    #: What the text names and nothing in the knowledge base has.
    unmatched_words: tuple[str, ...]
    #: Times, models and guidance: what is needed to check the images and to draw them again.
    completed: generation.Completed

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self.drawings[0].image
