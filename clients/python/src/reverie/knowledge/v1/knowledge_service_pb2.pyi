from reverie.knowledge.v1 import neighbour_pb2 as _neighbour_pb2
from reverie.knowledge.v1 import selection_pb2 as _selection_pb2
from reverie.tensor.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Entry(_message.Message):
    __slots__ = ("id", "caption", "image", "attribution", "metadata", "vector", "image_sha256")
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
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    caption: str
    image: _tensor_pb2.Image
    attribution: str
    metadata: _containers.MessageMap[str, _selection_pb2.MetadataValue]
    vector: _neighbour_pb2.QueryVector
    image_sha256: str
    def __init__(self, id: _Optional[str] = ..., caption: _Optional[str] = ..., image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., attribution: _Optional[str] = ..., metadata: _Optional[_Mapping[str, _selection_pb2.MetadataValue]] = ..., vector: _Optional[_Union[_neighbour_pb2.QueryVector, _Mapping]] = ..., image_sha256: _Optional[str] = ...) -> None: ...

class Epoch(_message.Message):
    __slots__ = ("number", "content_digest", "size")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    number: int
    content_digest: str
    size: int
    def __init__(self, number: _Optional[int] = ..., content_digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class UpsertEntriesRequest(_message.Message):
    __slots__ = ("knowledge_base", "entries")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, knowledge_base: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class UpsertEntriesResponse(_message.Message):
    __slots__ = ("epoch", "inserted", "replaced")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INSERTED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    epoch: Epoch
    inserted: int
    replaced: int
    def __init__(self, epoch: _Optional[_Union[Epoch, _Mapping]] = ..., inserted: _Optional[int] = ..., replaced: _Optional[int] = ...) -> None: ...

class DeleteEntriesRequest(_message.Message):
    __slots__ = ("knowledge_base", "ids")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, knowledge_base: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteEntriesResponse(_message.Message):
    __slots__ = ("epoch", "missing_ids")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MISSING_IDS_FIELD_NUMBER: _ClassVar[int]
    epoch: Epoch
    missing_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epoch: _Optional[_Union[Epoch, _Mapping]] = ..., missing_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetEntriesRequest(_message.Message):
    __slots__ = ("knowledge_base", "ids")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, knowledge_base: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetEntriesResponse(_message.Message):
    __slots__ = ("epoch", "missing_ids")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MISSING_IDS_FIELD_NUMBER: _ClassVar[int]
    epoch: Epoch
    missing_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epoch: _Optional[_Union[Epoch, _Mapping]] = ..., missing_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchGetEntriesRequest(_message.Message):
    __slots__ = ("knowledge_base", "ids", "images")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    images: _neighbour_pb2.ImageDetail
    def __init__(self, knowledge_base: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., images: _Optional[_Union[_neighbour_pb2.ImageDetail, str]] = ...) -> None: ...

class BatchGetEntriesResponse(_message.Message):
    __slots__ = ("entries", "missing_ids", "epoch")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    MISSING_IDS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    missing_ids: _containers.RepeatedScalarFieldContainer[str]
    epoch: Epoch
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., missing_ids: _Optional[_Iterable[str]] = ..., epoch: _Optional[_Union[Epoch, _Mapping]] = ...) -> None: ...

class GetKnowledgeBaseRequest(_message.Message):
    __slots__ = ("knowledge_base", "recall_queries")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    RECALL_QUERIES_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    recall_queries: int
    def __init__(self, knowledge_base: _Optional[str] = ..., recall_queries: _Optional[int] = ...) -> None: ...

class GetKnowledgeBaseResponse(_message.Message):
    __slots__ = ("name", "description", "epoch", "dimension", "space_digest", "is_writable", "segments", "snapshots", "vectors", "vector_memory_bytes", "recall")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IS_WRITABLE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    epoch: Epoch
    dimension: int
    space_digest: str
    is_writable: bool
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    vectors: str
    vector_memory_bytes: int
    recall: Recall
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., epoch: _Optional[_Union[Epoch, _Mapping]] = ..., dimension: _Optional[int] = ..., space_digest: _Optional[str] = ..., is_writable: bool = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., vectors: _Optional[str] = ..., vector_memory_bytes: _Optional[int] = ..., recall: _Optional[_Union[Recall, _Mapping]] = ...) -> None: ...

class Recall(_message.Message):
    __slots__ = ("recall", "queries", "search_milliseconds", "exact_milliseconds")
    RECALL_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    SEARCH_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    EXACT_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    recall: float
    queries: int
    search_milliseconds: float
    exact_milliseconds: float
    def __init__(self, recall: _Optional[float] = ..., queries: _Optional[int] = ..., search_milliseconds: _Optional[float] = ..., exact_milliseconds: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("name", "size", "deleted", "size_bytes", "is_forgetting")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IS_FORGETTING_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    deleted: int
    size_bytes: int
    is_forgetting: bool
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., deleted: _Optional[int] = ..., size_bytes: _Optional[int] = ..., is_forgetting: bool = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("name", "epoch", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    epoch: int
    size: int
    def __init__(self, name: _Optional[str] = ..., epoch: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("knowledge_base", "snapshot")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    snapshot: str
    def __init__(self, knowledge_base: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class CreateSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("knowledge_base", "snapshot")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    snapshot: str
    def __init__(self, knowledge_base: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class RestoreSnapshotResponse(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: Epoch
    def __init__(self, epoch: _Optional[_Union[Epoch, _Mapping]] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("knowledge_base", "snapshot")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: str
    snapshot: str
    def __init__(self, knowledge_base: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class DeleteSnapshotResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
