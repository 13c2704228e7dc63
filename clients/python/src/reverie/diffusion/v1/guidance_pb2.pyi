from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GuidanceStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUIDANCE_STRATEGY_UNSPECIFIED: _ClassVar[GuidanceStrategy]
    GUIDANCE_STRATEGY_INTERLEAVED: _ClassVar[GuidanceStrategy]
    GUIDANCE_STRATEGY_WEIGHTED: _ClassVar[GuidanceStrategy]
    GUIDANCE_STRATEGY_JOINT: _ClassVar[GuidanceStrategy]

class InterleaveDraw(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERLEAVE_DRAW_UNSPECIFIED: _ClassVar[InterleaveDraw]
    INTERLEAVE_DRAW_RANDOM: _ClassVar[InterleaveDraw]
    INTERLEAVE_DRAW_LOW_DISCREPANCY: _ClassVar[InterleaveDraw]

class StepKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEP_KIND_UNSPECIFIED: _ClassVar[StepKind]
    STEP_KIND_CONDITIONAL: _ClassVar[StepKind]
    STEP_KIND_TEXT_ENHANCED: _ClassVar[StepKind]
    STEP_KIND_NEIGHBOUR_ENHANCED: _ClassVar[StepKind]
    STEP_KIND_WEIGHTED: _ClassVar[StepKind]
    STEP_KIND_JOINT: _ClassVar[StepKind]
GUIDANCE_STRATEGY_UNSPECIFIED: GuidanceStrategy
GUIDANCE_STRATEGY_INTERLEAVED: GuidanceStrategy
GUIDANCE_STRATEGY_WEIGHTED: GuidanceStrategy
GUIDANCE_STRATEGY_JOINT: GuidanceStrategy
INTERLEAVE_DRAW_UNSPECIFIED: InterleaveDraw
INTERLEAVE_DRAW_RANDOM: InterleaveDraw
INTERLEAVE_DRAW_LOW_DISCREPANCY: InterleaveDraw
STEP_KIND_UNSPECIFIED: StepKind
STEP_KIND_CONDITIONAL: StepKind
STEP_KIND_TEXT_ENHANCED: StepKind
STEP_KIND_NEIGHBOUR_ENHANCED: StepKind
STEP_KIND_WEIGHTED: StepKind
STEP_KIND_JOINT: StepKind

class Guidance(_message.Message):
    __slots__ = ("strategy", "text_weight", "neighbour_weight", "interleave_ratio", "rescale", "interval", "interleave_draw")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    TEXT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVE_RATIO_FIELD_NUMBER: _ClassVar[int]
    RESCALE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVE_DRAW_FIELD_NUMBER: _ClassVar[int]
    strategy: GuidanceStrategy
    text_weight: float
    neighbour_weight: float
    interleave_ratio: float
    rescale: float
    interval: GuidanceInterval
    interleave_draw: InterleaveDraw
    def __init__(self, strategy: _Optional[_Union[GuidanceStrategy, str]] = ..., text_weight: _Optional[float] = ..., neighbour_weight: _Optional[float] = ..., interleave_ratio: _Optional[float] = ..., rescale: _Optional[float] = ..., interval: _Optional[_Union[GuidanceInterval, _Mapping]] = ..., interleave_draw: _Optional[_Union[InterleaveDraw, str]] = ...) -> None: ...

class GuidanceInterval(_message.Message):
    __slots__ = ("min_sigma", "max_sigma")
    MIN_SIGMA_FIELD_NUMBER: _ClassVar[int]
    MAX_SIGMA_FIELD_NUMBER: _ClassVar[int]
    min_sigma: float
    max_sigma: float
    def __init__(self, min_sigma: _Optional[float] = ..., max_sigma: _Optional[float] = ...) -> None: ...
