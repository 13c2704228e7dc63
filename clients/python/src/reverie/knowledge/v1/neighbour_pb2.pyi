from reverie.knowledge.v1 import selection_pb2 as _selection_pb2
from reverie.tensor.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetrievalStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_STRATEGY_UNSPECIFIED: _ClassVar[RetrievalStrategy]
    RETRIEVAL_STRATEGY_BM25: _ClassVar[RetrievalStrategy]
    RETRIEVAL_STRATEGY_EMBEDDING: _ClassVar[RetrievalStrategy]
    RETRIEVAL_STRATEGY_HYBRID: _ClassVar[RetrievalStrategy]

class NoMatch(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NO_MATCH_UNSPECIFIED: _ClassVar[NoMatch]
    NO_MATCH_DRAW_WITHOUT: _ClassVar[NoMatch]
    NO_MATCH_NEAREST: _ClassVar[NoMatch]
    NO_MATCH_REFUSE: _ClassVar[NoMatch]

class ImageDetail(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_DETAIL_UNSPECIFIED: _ClassVar[ImageDetail]
    IMAGE_DETAIL_NONE: _ClassVar[ImageDetail]
    IMAGE_DETAIL_THUMBNAIL: _ClassVar[ImageDetail]
    IMAGE_DETAIL_ORIGINAL: _ClassVar[ImageDetail]
RETRIEVAL_STRATEGY_UNSPECIFIED: RetrievalStrategy
RETRIEVAL_STRATEGY_BM25: RetrievalStrategy
RETRIEVAL_STRATEGY_EMBEDDING: RetrievalStrategy
RETRIEVAL_STRATEGY_HYBRID: RetrievalStrategy
NO_MATCH_UNSPECIFIED: NoMatch
NO_MATCH_DRAW_WITHOUT: NoMatch
NO_MATCH_NEAREST: NoMatch
NO_MATCH_REFUSE: NoMatch
IMAGE_DETAIL_UNSPECIFIED: ImageDetail
IMAGE_DETAIL_NONE: ImageDetail
IMAGE_DETAIL_THUMBNAIL: ImageDetail
IMAGE_DETAIL_ORIGINAL: ImageDetail

class QueryVector(_message.Message):
    __slots__ = ("values", "space_digest")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    space_digest: str
    def __init__(self, values: _Optional[_Iterable[float]] = ..., space_digest: _Optional[str] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("id", "caption", "image", "score", "attribution", "matched_words", "similarity", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _selection_pb2.MetadataValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_selection_pb2.MetadataValue, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    MATCHED_WORDS_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    caption: str
    image: _tensor_pb2.Image
    score: float
    attribution: str
    matched_words: _containers.RepeatedScalarFieldContainer[str]
    similarity: float
    metadata: _containers.MessageMap[str, _selection_pb2.MetadataValue]
    def __init__(self, id: _Optional[str] = ..., caption: _Optional[str] = ..., image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., score: _Optional[float] = ..., attribution: _Optional[str] = ..., matched_words: _Optional[_Iterable[str]] = ..., similarity: _Optional[float] = ..., metadata: _Optional[_Mapping[str, _selection_pb2.MetadataValue]] = ...) -> None: ...

class MisspeltWord(_message.Message):
    __slots__ = ("word", "read_as")
    WORD_FIELD_NUMBER: _ClassVar[int]
    READ_AS_FIELD_NUMBER: _ClassVar[int]
    word: str
    read_as: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, word: _Optional[str] = ..., read_as: _Optional[_Iterable[str]] = ...) -> None: ...
