from reverie.diffusion.v1 import guidance_pb2 as _guidance_pb2
from reverie.diffusion.v1 import initial_picture_pb2 as _initial_picture_pb2
from reverie.diffusion.v1 import sampling_pb2 as _sampling_pb2
from reverie.diffusion.v1 import stage_pb2 as _stage_pb2
from reverie.knowledge.v1 import neighbour_pb2 as _neighbour_pb2
from reverie.knowledge.v1 import selection_pb2 as _selection_pb2
from reverie.tensor.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_ENCODE: _ClassVar[Stage]
    STAGE_RETRIEVE: _ClassVar[Stage]
    STAGE_BASE: _ClassVar[Stage]
    STAGE_SUPER_RESOLUTION: _ClassVar[Stage]
    STAGE_ENCODE_PICTURE: _ClassVar[Stage]
    STAGE_DECODE: _ClassVar[Stage]
STAGE_UNSPECIFIED: Stage
STAGE_ENCODE: Stage
STAGE_RETRIEVE: Stage
STAGE_BASE: Stage
STAGE_SUPER_RESOLUTION: Stage
STAGE_ENCODE_PICTURE: Stage
STAGE_DECODE: Stage

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "seed", "size", "retrieval", "references", "none", "guidance", "base_sampling", "super_resolution", "output_format", "previews", "negative_prompt", "initial", "resolution", "count", "allow_degraded", "step_previews")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    NONE_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    BASE_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SUPER_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    STEP_PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    seed: int
    size: int
    retrieval: Retrieval
    references: References
    none: NoMemory
    guidance: _guidance_pb2.Guidance
    base_sampling: _sampling_pb2.Sampling
    super_resolution: _containers.RepeatedCompositeFieldContainer[SuperResolutionOptions]
    output_format: _tensor_pb2.ImageFormat
    previews: bool
    negative_prompt: str
    initial: _initial_picture_pb2.InitialPicture
    resolution: _tensor_pb2.Size
    count: int
    allow_degraded: bool
    step_previews: bool
    def __init__(self, prompt: _Optional[str] = ..., seed: _Optional[int] = ..., size: _Optional[int] = ..., retrieval: _Optional[_Union[Retrieval, _Mapping]] = ..., references: _Optional[_Union[References, _Mapping]] = ..., none: _Optional[_Union[NoMemory, _Mapping]] = ..., guidance: _Optional[_Union[_guidance_pb2.Guidance, _Mapping]] = ..., base_sampling: _Optional[_Union[_sampling_pb2.Sampling, _Mapping]] = ..., super_resolution: _Optional[_Iterable[_Union[SuperResolutionOptions, _Mapping]]] = ..., output_format: _Optional[_Union[_tensor_pb2.ImageFormat, str]] = ..., previews: bool = ..., negative_prompt: _Optional[str] = ..., initial: _Optional[_Union[_initial_picture_pb2.InitialPicture, _Mapping]] = ..., resolution: _Optional[_Union[_tensor_pb2.Size, _Mapping]] = ..., count: _Optional[int] = ..., allow_degraded: bool = ..., step_previews: bool = ...) -> None: ...

class Retrieval(_message.Message):
    __slots__ = ("knowledge_base", "neighbours", "strategy", "minimum_score", "no_match", "query", "query_image", "query_vector", "selection", "images", "references")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_SCORE_FIELD_NUMBER: _ClassVar[int]
    NO_MATCH_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    QUERY_IMAGE_FIELD_NUMBER: _ClassVar[int]
    QUERY_VECTOR_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    neighbours: int
    strategy: _neighbour_pb2.RetrievalStrategy
    minimum_score: float
    no_match: _neighbour_pb2.NoMatch
    query: str
    query_image: _tensor_pb2.Image
    query_vector: _neighbour_pb2.QueryVector
    selection: _selection_pb2.Selection
    images: _neighbour_pb2.ImageDetail
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    def __init__(self, knowledge_base: _Optional[str] = ..., neighbours: _Optional[int] = ..., strategy: _Optional[_Union[_neighbour_pb2.RetrievalStrategy, str]] = ..., minimum_score: _Optional[float] = ..., no_match: _Optional[_Union[_neighbour_pb2.NoMatch, str]] = ..., query: _Optional[str] = ..., query_image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., query_vector: _Optional[_Union[_neighbour_pb2.QueryVector, _Mapping]] = ..., selection: _Optional[_Union[_selection_pb2.Selection, _Mapping]] = ..., images: _Optional[_Union[_neighbour_pb2.ImageDetail, str]] = ..., references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ...) -> None: ...

class References(_message.Message):
    __slots__ = ("references",)
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    def __init__(self, references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("image", "caption", "fit")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    image: _tensor_pb2.Image
    caption: str
    fit: _tensor_pb2.Fit
    def __init__(self, image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., caption: _Optional[str] = ..., fit: _Optional[_Union[_tensor_pb2.Fit, str]] = ...) -> None: ...

class NoMemory(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SuperResolutionOptions(_message.Message):
    __slots__ = ("guidance_weight", "noise_level", "sampling")
    GUIDANCE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    NOISE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    guidance_weight: float
    noise_level: float
    sampling: _sampling_pb2.Sampling
    def __init__(self, guidance_weight: _Optional[float] = ..., noise_level: _Optional[float] = ..., sampling: _Optional[_Union[_sampling_pb2.Sampling, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "progress", "preview", "neighbours", "image", "completed")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    progress: Progress
    preview: Preview
    neighbours: NeighboursFound
    image: GeneratedImage
    completed: Completed
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., neighbours: _Optional[_Union[NeighboursFound, _Mapping]] = ..., image: _Optional[_Union[GeneratedImage, _Mapping]] = ..., completed: _Optional[_Union[Completed, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("seed", "stages", "seeds")
    SEED_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    seed: int
    stages: _containers.RepeatedScalarFieldContainer[Stage]
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seed: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[Stage, str]]] = ..., seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "step", "steps", "level", "index")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    step: int
    steps: int
    level: int
    index: int
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., level: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("stage", "image", "level", "index", "step", "steps")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    image: _tensor_pb2.Image
    level: int
    index: int
    step: int
    steps: int
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., level: _Optional[int] = ..., index: _Optional[int] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class NeighboursFound(_message.Message):
    __slots__ = ("neighbours", "knowledge_base", "epoch", "nothing_matched", "unmatched_words", "misspelt_words")
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NOTHING_MATCHED_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_WORDS_FIELD_NUMBER: _ClassVar[int]
    MISSPELT_WORDS_FIELD_NUMBER: _ClassVar[int]
    neighbours: _containers.RepeatedCompositeFieldContainer[_neighbour_pb2.Neighbour]
    knowledge_base: str
    epoch: int
    nothing_matched: bool
    unmatched_words: _containers.RepeatedScalarFieldContainer[str]
    misspelt_words: _containers.RepeatedCompositeFieldContainer[_neighbour_pb2.MisspeltWord]
    def __init__(self, neighbours: _Optional[_Iterable[_Union[_neighbour_pb2.Neighbour, _Mapping]]] = ..., knowledge_base: _Optional[str] = ..., epoch: _Optional[int] = ..., nothing_matched: bool = ..., unmatched_words: _Optional[_Iterable[str]] = ..., misspelt_words: _Optional[_Iterable[_Union[_neighbour_pb2.MisspeltWord, _Mapping]]] = ...) -> None: ...

class GeneratedImage(_message.Message):
    __slots__ = ("image", "index", "seed", "degraded", "level")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    image: _tensor_pb2.Image
    index: int
    seed: int
    degraded: bool
    level: int
    def __init__(self, image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., index: _Optional[int] = ..., seed: _Optional[int] = ..., degraded: bool = ..., level: _Optional[int] = ...) -> None: ...

class Completed(_message.Message):
    __slots__ = ("seed", "stages", "step_kinds", "total_seconds", "guidance", "images", "degraded")
    SEED_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    STEP_KINDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    seed: int
    stages: _containers.RepeatedCompositeFieldContainer[StageReport]
    step_kinds: _containers.RepeatedScalarFieldContainer[_guidance_pb2.StepKind]
    total_seconds: float
    guidance: _guidance_pb2.Guidance
    images: _containers.RepeatedCompositeFieldContainer[ImageReport]
    degraded: bool
    def __init__(self, seed: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[StageReport, _Mapping]]] = ..., step_kinds: _Optional[_Iterable[_Union[_guidance_pb2.StepKind, str]]] = ..., total_seconds: _Optional[float] = ..., guidance: _Optional[_Union[_guidance_pb2.Guidance, _Mapping]] = ..., images: _Optional[_Iterable[_Union[ImageReport, _Mapping]]] = ..., degraded: bool = ...) -> None: ...

class ImageReport(_message.Message):
    __slots__ = ("index", "seed", "stages", "step_kinds", "total_seconds", "degraded", "level")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    STEP_KINDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    index: int
    seed: int
    stages: _containers.RepeatedCompositeFieldContainer[StageReport]
    step_kinds: _containers.RepeatedScalarFieldContainer[_guidance_pb2.StepKind]
    total_seconds: float
    degraded: bool
    level: int
    def __init__(self, index: _Optional[int] = ..., seed: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[StageReport, _Mapping]]] = ..., step_kinds: _Optional[_Iterable[_Union[_guidance_pb2.StepKind, str]]] = ..., total_seconds: _Optional[float] = ..., degraded: bool = ..., level: _Optional[int] = ...) -> None: ...

class StageReport(_message.Message):
    __slots__ = ("stage", "seconds", "timings", "model", "level")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    seconds: float
    timings: _stage_pb2.StageTimings
    model: _stage_pb2.ModelIdentity
    level: int
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., seconds: _Optional[float] = ..., timings: _Optional[_Union[_stage_pb2.StageTimings, _Mapping]] = ..., model: _Optional[_Union[_stage_pb2.ModelIdentity, _Mapping]] = ..., level: _Optional[int] = ...) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("base_model", "base_size", "other_sizes", "levels", "samplers", "max_steps", "default_sampling", "guidance_strategies", "default_guidance", "takes_negative_prompt", "needs_mask", "max_neighbours", "default_neighbours", "knowledge_bases", "retrieval_strategies", "output_formats", "limits", "max_step_previews_per_second", "takes_initial")
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_SIZE_FIELD_NUMBER: _ClassVar[int]
    OTHER_SIZES_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLERS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    TAKES_NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEEDS_MASK_FIELD_NUMBER: _ClassVar[int]
    MAX_NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_BASES_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMATS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEP_PREVIEWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TAKES_INITIAL_FIELD_NUMBER: _ClassVar[int]
    base_model: _stage_pb2.ModelIdentity
    base_size: int
    other_sizes: OtherSizes
    levels: _containers.RepeatedCompositeFieldContainer[Level]
    samplers: _containers.RepeatedScalarFieldContainer[_sampling_pb2.Sampler]
    max_steps: int
    default_sampling: _sampling_pb2.Sampling
    guidance_strategies: _containers.RepeatedScalarFieldContainer[_guidance_pb2.GuidanceStrategy]
    default_guidance: _guidance_pb2.Guidance
    takes_negative_prompt: bool
    needs_mask: bool
    max_neighbours: int
    default_neighbours: int
    knowledge_bases: _containers.RepeatedCompositeFieldContainer[SearchableKnowledgeBase]
    retrieval_strategies: _containers.RepeatedScalarFieldContainer[_neighbour_pb2.RetrievalStrategy]
    output_formats: _containers.RepeatedScalarFieldContainer[_tensor_pb2.ImageFormat]
    limits: RequestLimits
    max_step_previews_per_second: float
    takes_initial: bool
    def __init__(self, base_model: _Optional[_Union[_stage_pb2.ModelIdentity, _Mapping]] = ..., base_size: _Optional[int] = ..., other_sizes: _Optional[_Union[OtherSizes, _Mapping]] = ..., levels: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., samplers: _Optional[_Iterable[_Union[_sampling_pb2.Sampler, str]]] = ..., max_steps: _Optional[int] = ..., default_sampling: _Optional[_Union[_sampling_pb2.Sampling, _Mapping]] = ..., guidance_strategies: _Optional[_Iterable[_Union[_guidance_pb2.GuidanceStrategy, str]]] = ..., default_guidance: _Optional[_Union[_guidance_pb2.Guidance, _Mapping]] = ..., takes_negative_prompt: bool = ..., needs_mask: bool = ..., max_neighbours: _Optional[int] = ..., default_neighbours: _Optional[int] = ..., knowledge_bases: _Optional[_Iterable[_Union[SearchableKnowledgeBase, _Mapping]]] = ..., retrieval_strategies: _Optional[_Iterable[_Union[_neighbour_pb2.RetrievalStrategy, str]]] = ..., output_formats: _Optional[_Iterable[_Union[_tensor_pb2.ImageFormat, str]]] = ..., limits: _Optional[_Union[RequestLimits, _Mapping]] = ..., max_step_previews_per_second: _Optional[float] = ..., takes_initial: bool = ...) -> None: ...

class OtherSizes(_message.Message):
    __slots__ = ("multiple", "max_side", "max_pixels")
    MULTIPLE_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    multiple: int
    max_side: int
    max_pixels: int
    def __init__(self, multiple: _Optional[int] = ..., max_side: _Optional[int] = ..., max_pixels: _Optional[int] = ...) -> None: ...

class Level(_message.Message):
    __slots__ = ("model", "low_resolution_size", "image_size", "samplers", "max_steps", "default_sampling", "default_guidance_weight", "default_noise_level")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOW_RESOLUTION_SIZE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SAMPLERS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NOISE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    model: _stage_pb2.ModelIdentity
    low_resolution_size: int
    image_size: int
    samplers: _containers.RepeatedScalarFieldContainer[_sampling_pb2.Sampler]
    max_steps: int
    default_sampling: _sampling_pb2.Sampling
    default_guidance_weight: float
    default_noise_level: float
    def __init__(self, model: _Optional[_Union[_stage_pb2.ModelIdentity, _Mapping]] = ..., low_resolution_size: _Optional[int] = ..., image_size: _Optional[int] = ..., samplers: _Optional[_Iterable[_Union[_sampling_pb2.Sampler, str]]] = ..., max_steps: _Optional[int] = ..., default_sampling: _Optional[_Union[_sampling_pb2.Sampling, _Mapping]] = ..., default_guidance_weight: _Optional[float] = ..., default_noise_level: _Optional[float] = ...) -> None: ...

class SearchableKnowledgeBase(_message.Message):
    __slots__ = ("name", "description", "epoch", "size", "is_default")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    epoch: int
    size: int
    is_default: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., epoch: _Optional[int] = ..., size: _Optional[int] = ..., is_default: bool = ...) -> None: ...

class RequestLimits(_message.Message):
    __slots__ = ("max_text_bytes", "max_image_bytes", "max_image_side", "max_request_bytes", "max_request_seconds", "max_in_flight", "max_images")
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_SIDE_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    max_text_bytes: int
    max_image_bytes: int
    max_image_side: int
    max_request_bytes: int
    max_request_seconds: int
    max_in_flight: int
    max_images: int
    def __init__(self, max_text_bytes: _Optional[int] = ..., max_image_bytes: _Optional[int] = ..., max_image_side: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_request_seconds: _Optional[int] = ..., max_in_flight: _Optional[int] = ..., max_images: _Optional[int] = ...) -> None: ...
