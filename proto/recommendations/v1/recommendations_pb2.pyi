import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FallbackLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FALLBACK_LEVEL_UNSPECIFIED: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_NONE: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_POPULAR: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_ANY_OPEN: _ClassVar[FallbackLevel]
FALLBACK_LEVEL_UNSPECIFIED: FallbackLevel
FALLBACK_LEVEL_NONE: FallbackLevel
FALLBACK_LEVEL_POPULAR: FallbackLevel
FALLBACK_LEVEL_ANY_OPEN: FallbackLevel

class GetTopSalesRequest(_message.Message):
    __slots__ = ("user_id", "n", "policy")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    n: int
    policy: str
    def __init__(self, user_id: _Optional[str] = ..., n: _Optional[int] = ..., policy: _Optional[str] = ...) -> None: ...

class GetTopSalesResponse(_message.Message):
    __slots__ = ("sales", "policy", "model_version", "snapshot", "as_of_time", "fallback_level", "fallback_reason", "answer_time", "shortfall_reason")
    SALES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TIME_FIELD_NUMBER: _ClassVar[int]
    SHORTFALL_REASON_FIELD_NUMBER: _ClassVar[int]
    sales: _containers.RepeatedCompositeFieldContainer[RankedSale]
    policy: str
    model_version: str
    snapshot: str
    as_of_time: _timestamp_pb2.Timestamp
    fallback_level: FallbackLevel
    fallback_reason: str
    answer_time: _timestamp_pb2.Timestamp
    shortfall_reason: str
    def __init__(self, sales: _Optional[_Iterable[_Union[RankedSale, _Mapping]]] = ..., policy: _Optional[str] = ..., model_version: _Optional[str] = ..., snapshot: _Optional[str] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fallback_level: _Optional[_Union[FallbackLevel, str]] = ..., fallback_reason: _Optional[str] = ..., answer_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shortfall_reason: _Optional[str] = ...) -> None: ...

class RankedSale(_message.Message):
    __slots__ = ("sale_id", "rank", "score", "title", "open_time", "close_time", "price", "reason", "reason_text", "image_uri")
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REASON_TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_URI_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    rank: int
    score: float
    title: str
    open_time: _timestamp_pb2.Timestamp
    close_time: _timestamp_pb2.Timestamp
    price: float
    reason: str
    reason_text: str
    image_uri: str
    def __init__(self, sale_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., title: _Optional[str] = ..., open_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., close_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price: _Optional[float] = ..., reason: _Optional[str] = ..., reason_text: _Optional[str] = ..., image_uri: _Optional[str] = ...) -> None: ...
