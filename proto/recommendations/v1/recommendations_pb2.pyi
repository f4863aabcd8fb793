import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_VISIT: _ClassVar[EventKind]
    EVENT_KIND_PURCHASE: _ClassVar[EventKind]

class FallbackLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FALLBACK_LEVEL_UNSPECIFIED: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_NONE: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_POPULAR: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_ANY_OPEN: _ClassVar[FallbackLevel]
    FALLBACK_LEVEL_SEGMENT: _ClassVar[FallbackLevel]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_VISIT: EventKind
EVENT_KIND_PURCHASE: EventKind
FALLBACK_LEVEL_UNSPECIFIED: FallbackLevel
FALLBACK_LEVEL_NONE: FallbackLevel
FALLBACK_LEVEL_POPULAR: FallbackLevel
FALLBACK_LEVEL_ANY_OPEN: FallbackLevel
FALLBACK_LEVEL_SEGMENT: FallbackLevel

class GetTopSalesRequest(_message.Message):
    __slots__ = ("user_id", "n", "policy", "session_sale_ids", "attributes", "surface", "allowed_sale_ids", "denied_sale_ids", "explain", "request_id", "answer_time", "filters", "language", "preview", "without_rules", "ranking")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SESSION_SALE_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_SALE_IDS_FIELD_NUMBER: _ClassVar[int]
    DENIED_SALE_IDS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TIME_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_RULES_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    n: int
    policy: str
    session_sale_ids: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.ScalarMap[str, str]
    surface: str
    allowed_sale_ids: _containers.RepeatedScalarFieldContainer[str]
    denied_sale_ids: _containers.RepeatedScalarFieldContainer[str]
    explain: bool
    request_id: str
    answer_time: _timestamp_pb2.Timestamp
    filters: _containers.RepeatedCompositeFieldContainer[AttributeFilter]
    language: str
    preview: bool
    without_rules: bool
    ranking: str
    def __init__(self, user_id: _Optional[str] = ..., n: _Optional[int] = ..., policy: _Optional[str] = ..., session_sale_ids: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Mapping[str, str]] = ..., surface: _Optional[str] = ..., allowed_sale_ids: _Optional[_Iterable[str]] = ..., denied_sale_ids: _Optional[_Iterable[str]] = ..., explain: _Optional[bool] = ..., request_id: _Optional[str] = ..., answer_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., filters: _Optional[_Iterable[_Union[AttributeFilter, _Mapping]]] = ..., language: _Optional[str] = ..., preview: _Optional[bool] = ..., without_rules: _Optional[bool] = ..., ranking: _Optional[str] = ...) -> None: ...

class GetSimilarSalesRequest(_message.Message):
    __slots__ = ("sale_id", "page")
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    page: GetTopSalesRequest
    def __init__(self, sale_id: _Optional[str] = ..., page: _Optional[_Union[GetTopSalesRequest, _Mapping]] = ...) -> None: ...

class AttributeFilter(_message.Message):
    __slots__ = ("attribute", "values", "exclude")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    values: _containers.RepeatedScalarFieldContainer[str]
    exclude: bool
    def __init__(self, attribute: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., exclude: _Optional[bool] = ...) -> None: ...

class GetTopSalesResponse(_message.Message):
    __slots__ = ("sales", "policy", "model_version", "snapshot", "as_of_time", "fallback_level", "fallback_reason", "answer_time", "shortfall_reason", "request_id", "uses_session", "rules", "notes", "assignment", "currency")
    SALES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TIME_FIELD_NUMBER: _ClassVar[int]
    SHORTFALL_REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USES_SESSION_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    sales: _containers.RepeatedCompositeFieldContainer[RankedSale]
    policy: str
    model_version: str
    snapshot: str
    as_of_time: _timestamp_pb2.Timestamp
    fallback_level: FallbackLevel
    fallback_reason: str
    answer_time: _timestamp_pb2.Timestamp
    shortfall_reason: str
    request_id: str
    uses_session: bool
    rules: _containers.RepeatedScalarFieldContainer[str]
    notes: _containers.RepeatedScalarFieldContainer[str]
    assignment: Assignment
    currency: str
    def __init__(self, sales: _Optional[_Iterable[_Union[RankedSale, _Mapping]]] = ..., policy: _Optional[str] = ..., model_version: _Optional[str] = ..., snapshot: _Optional[str] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fallback_level: _Optional[_Union[FallbackLevel, str]] = ..., fallback_reason: _Optional[str] = ..., answer_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shortfall_reason: _Optional[str] = ..., request_id: _Optional[str] = ..., uses_session: _Optional[bool] = ..., rules: _Optional[_Iterable[str]] = ..., notes: _Optional[_Iterable[str]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ..., currency: _Optional[str] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("experiment", "phase", "variant", "reason")
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    experiment: str
    phase: int
    variant: str
    reason: str
    def __init__(self, experiment: _Optional[str] = ..., phase: _Optional[int] = ..., variant: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RankedSale(_message.Message):
    __slots__ = ("sale_id", "rank", "score", "title", "open_time", "close_time", "price", "reason", "reason_text", "image_uri", "probability", "contributions", "rule")
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
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
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
    probability: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    rule: str
    def __init__(self, sale_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., title: _Optional[str] = ..., open_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., close_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price: _Optional[float] = ..., reason: _Optional[str] = ..., reason_text: _Optional[str] = ..., image_uri: _Optional[str] = ..., probability: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., rule: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("feature", "log_odds")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    LOG_ODDS_FIELD_NUMBER: _ClassVar[int]
    feature: str
    log_odds: float
    def __init__(self, feature: _Optional[str] = ..., log_odds: _Optional[float] = ...) -> None: ...

class BatchGetTopSalesRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[GetTopSalesRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[GetTopSalesRequest, _Mapping]]] = ...) -> None: ...

class BatchGetTopSalesResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[GetTopSalesResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[GetTopSalesResponse, _Mapping]]] = ...) -> None: ...

class RecordEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class RecordEventsResponse(_message.Message):
    __slots__ = ("recorded", "refused")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    refused: _containers.RepeatedCompositeFieldContainer[RefusedEvent]
    def __init__(self, recorded: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[RefusedEvent, _Mapping]]] = ...) -> None: ...

class RefusedEvent(_message.Message):
    __slots__ = ("index", "reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: str
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("user_id", "sale_id", "kind", "occur_time", "attribution_token", "revenue", "event_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OCCUR_TIME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVENUE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    sale_id: str
    kind: EventKind
    occur_time: _timestamp_pb2.Timestamp
    attribution_token: str
    revenue: float
    event_id: str
    def __init__(self, user_id: _Optional[str] = ..., sale_id: _Optional[str] = ..., kind: _Optional[_Union[EventKind, str]] = ..., occur_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attribution_token: _Optional[str] = ..., revenue: _Optional[float] = ..., event_id: _Optional[str] = ...) -> None: ...
