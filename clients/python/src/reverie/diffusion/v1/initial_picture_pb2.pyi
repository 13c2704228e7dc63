from reverie.tensor.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InitialPicture(_message.Message):
    __slots__ = ("image", "strength", "mask", "fit")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    image: _tensor_pb2.Image
    strength: float
    mask: _tensor_pb2.Image
    fit: _tensor_pb2.Fit
    def __init__(self, image: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., strength: _Optional[float] = ..., mask: _Optional[_Union[_tensor_pb2.Image, _Mapping]] = ..., fit: _Optional[_Union[_tensor_pb2.Fit, str]] = ...) -> None: ...
