from reverie.knowledge.v1 import neighbour_pb2 as _neighbour_pb2
from reverie.knowledge.v1 import selection_pb2 as _selection_pb2
from reverie.tensor.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetrieveRequest(_message.Message):
    __slots__ = ("knowledge_base", "text", "limit", "strategy", "minimum_score", "nearest", "image", "vector", "selection", "images", "exact")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_SCORE_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    text: str
    limit: int
    strategy: _neighbour_pb2.RetrievalStrategy
    minimum_score: float
    nearest: bool
    image: _tensor_pb2.Image
    vector: _neighbour_pb2.QueryVector
    selection: _selection_pb2.Selection
    images: _neighbour_pb2.ImageDetail
    exact: bool
    def __init__(self, knowledge_base: _Optional[str] = ..., text: _Optional[str] = ..., limit: _Optional[int] = ..., strategy: _Optional[_Union[_neighbour_pb2.RetrievalStrategy, str]] = ..., minimum_score: _Optional[float] = ..., nearest: bool = ..., image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., vector: _Optional[_Union[_neighbour_pb2.QueryVector, _Mapping]] = ..., selection: _Optional[_Union[_selection_pb2.Selection, _Mapping]] = ..., images: _Optional[_Union[_neighbour_pb2.ImageDetail, str]] = ..., exact: bool = ...) -> None: ...

class RetrieveResponse(_message.Message):
    __slots__ = ("neighbours", "knowledge_base", "epoch", "content_digest", "nothing_matched", "unmatched_words", "misspelt_words")
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOTHING_MATCHED_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_WORDS_FIELD_NUMBER: _ClassVar[int]
    MISSPELT_WORDS_FIELD_NUMBER: _ClassVar[int]
    neighbours: _containers.RepeatedCompositeFieldContainer[_neighbour_pb2.Neighbour]
    knowledge_base: str
    epoch: int
    content_digest: str
    nothing_matched: bool
    unmatched_words: _containers.RepeatedScalarFieldContainer[str]
    misspelt_words: _containers.RepeatedCompositeFieldContainer[_neighbour_pb2.MisspeltWord]
    def __init__(self, neighbours: _Optional[_Iterable[_Union[_neighbour_pb2.Neighbour, _Mapping]]] = ..., knowledge_base: _Optional[str] = ..., epoch: _Optional[int] = ..., content_digest: _Optional[str] = ..., nothing_matched: bool = ..., unmatched_words: _Optional[_Iterable[str]] = ..., misspelt_words: _Optional[_Iterable[_Union[_neighbour_pb2.MisspeltWord, _Mapping]]] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("knowledge_base", "epoch", "drop_older")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DROP_OLDER_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    epoch: int
    drop_older: bool
    def __init__(self, knowledge_base: _Optional[str] = ..., epoch: _Optional[int] = ..., drop_older: bool = ...) -> None: ...

class PrepareResponse(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class ListKnowledgeBasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKnowledgeBasesResponse(_message.Message):
    __slots__ = ("knowledge_bases",)
    KNOWLEDGE_BASES_FIELD_NUMBER: _ClassVar[int]
    knowledge_bases: _containers.RepeatedCompositeFieldContainer[KnowledgeBase]
    def __init__(self, knowledge_bases: _Optional[_Iterable[_Union[KnowledgeBase, _Mapping]]] = ...) -> None: ...

class KnowledgeBase(_message.Message):
    __slots__ = ("name", "epoch", "size", "description", "content_digest", "is_default", "dimension", "space_digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    epoch: int
    size: int
    description: str
    content_digest: str
    is_default: bool
    dimension: int
    space_digest: str
    def __init__(self, name: _Optional[str] = ..., epoch: _Optional[int] = ..., size: _Optional[int] = ..., description: _Optional[str] = ..., content_digest: _Optional[str] = ..., is_default: bool = ..., dimension: _Optional[int] = ..., space_digest: _Optional[str] = ...) -> None: ...
