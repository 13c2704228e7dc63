from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sampler(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLER_UNSPECIFIED: _ClassVar[Sampler]
    SAMPLER_DDPM: _ClassVar[Sampler]
    SAMPLER_DDIM: _ClassVar[Sampler]
    SAMPLER_EULER: _ClassVar[Sampler]
    SAMPLER_EULER_ANCESTRAL: _ClassVar[Sampler]
    SAMPLER_HEUN: _ClassVar[Sampler]
    SAMPLER_DPMPP_2M: _ClassVar[Sampler]
    SAMPLER_DPMPP_2M_SDE: _ClassVar[Sampler]
    SAMPLER_UNIPC: _ClassVar[Sampler]
    SAMPLER_PNDM: _ClassVar[Sampler]
    SAMPLER_PLMS: _ClassVar[Sampler]
    SAMPLER_LCM: _ClassVar[Sampler]

class Thresholding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THRESHOLDING_UNSPECIFIED: _ClassVar[Thresholding]
    THRESHOLDING_NONE: _ClassVar[Thresholding]
    THRESHOLDING_STATIC: _ClassVar[Thresholding]
    THRESHOLDING_DYNAMIC: _ClassVar[Thresholding]

class NoiseLevels(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOISE_LEVELS_UNSPECIFIED: _ClassVar[NoiseLevels]
    NOISE_LEVELS_TRAINED: _ClassVar[NoiseLevels]
    NOISE_LEVELS_KARRAS: _ClassVar[NoiseLevels]
SAMPLER_UNSPECIFIED: Sampler
SAMPLER_DDPM: Sampler
SAMPLER_DDIM: Sampler
SAMPLER_EULER: Sampler
SAMPLER_EULER_ANCESTRAL: Sampler
SAMPLER_HEUN: Sampler
SAMPLER_DPMPP_2M: Sampler
SAMPLER_DPMPP_2M_SDE: Sampler
SAMPLER_UNIPC: Sampler
SAMPLER_PNDM: Sampler
SAMPLER_PLMS: Sampler
SAMPLER_LCM: Sampler
THRESHOLDING_UNSPECIFIED: Thresholding
THRESHOLDING_NONE: Thresholding
THRESHOLDING_STATIC: Thresholding
THRESHOLDING_DYNAMIC: Thresholding
NOISE_LEVELS_UNSPECIFIED: NoiseLevels
NOISE_LEVELS_TRAINED: NoiseLevels
NOISE_LEVELS_KARRAS: NoiseLevels

class Sampling(_message.Message):
    __slots__ = ("sampler", "steps", "ddim_eta", "thresholding", "noise_levels")
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DDIM_ETA_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDING_FIELD_NUMBER: _ClassVar[int]
    NOISE_LEVELS_FIELD_NUMBER: _ClassVar[int]
    sampler: Sampler
    steps: int
    ddim_eta: float
    thresholding: Thresholding
    noise_levels: NoiseLevels
    def __init__(self, sampler: _Optional[_Union[Sampler, str]] = ..., steps: _Optional[int] = ..., ddim_eta: _Optional[float] = ..., thresholding: _Optional[_Union[Thresholding, str]] = ..., noise_levels: _Optional[_Union[NoiseLevels, str]] = ...) -> None: ...
