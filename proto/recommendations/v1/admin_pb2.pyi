import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CloseSaleRequest(_message.Message):
    __slots__ = ("sale_id", "comment")
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    comment: str
    def __init__(self, sale_id: _Optional[str] = ..., comment: _Optional[str] = ...) -> None: ...

class HideSaleRequest(_message.Message):
    __slots__ = ("sale_id", "comment", "until_time")
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    comment: str
    until_time: _timestamp_pb2.Timestamp
    def __init__(self, sale_id: _Optional[str] = ..., comment: _Optional[str] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ShowSaleRequest(_message.Message):
    __slots__ = ("sale_id",)
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    def __init__(self, sale_id: _Optional[str] = ...) -> None: ...

class ShowSaleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LookUpSaleRequest(_message.Message):
    __slots__ = ("sale_id",)
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    def __init__(self, sale_id: _Optional[str] = ...) -> None: ...

class SaleLookup(_message.Message):
    __slots__ = ("snapshot", "in_snapshot", "title", "nearest_sale_id")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    IN_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    NEAREST_SALE_ID_FIELD_NUMBER: _ClassVar[int]
    snapshot: str
    in_snapshot: bool
    title: str
    nearest_sale_id: str
    def __init__(self, snapshot: _Optional[str] = ..., in_snapshot: _Optional[bool] = ..., title: _Optional[str] = ..., nearest_sale_id: _Optional[str] = ...) -> None: ...

class ListWithdrawnSalesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWithdrawnSalesResponse(_message.Message):
    __slots__ = ("sales", "next_page_token")
    SALES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sales: _containers.RepeatedCompositeFieldContainer[WithdrawnSale]
    next_page_token: str
    def __init__(self, sales: _Optional[_Iterable[_Union[WithdrawnSale, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WithdrawnSale(_message.Message):
    __slots__ = ("sale_id", "closed", "since_time", "until_time", "comment", "by", "unacknowledged_processes", "stopped_processes", "lookup")
    SALE_ID_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    UNACKNOWLEDGED_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    STOPPED_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    sale_id: str
    closed: bool
    since_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    comment: str
    by: str
    unacknowledged_processes: _containers.RepeatedScalarFieldContainer[str]
    stopped_processes: _containers.RepeatedScalarFieldContainer[str]
    lookup: SaleLookup
    def __init__(self, sale_id: _Optional[str] = ..., closed: _Optional[bool] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comment: _Optional[str] = ..., by: _Optional[str] = ..., unacknowledged_processes: _Optional[_Iterable[str]] = ..., stopped_processes: _Optional[_Iterable[str]] = ..., lookup: _Optional[_Union[SaleLookup, _Mapping]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("process_id", "workers", "start_time", "snapshot", "as_of_time", "horizon_end_time", "problems", "open_sales", "rules", "exposures_queued", "exposures_lost", "present_time", "experiments")
    class ExperimentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    HORIZON_END_TIME_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    OPEN_SALES_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_QUEUED_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_LOST_FIELD_NUMBER: _ClassVar[int]
    PRESENT_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENTS_FIELD_NUMBER: _ClassVar[int]
    process_id: int
    workers: int
    start_time: _timestamp_pb2.Timestamp
    snapshot: str
    as_of_time: _timestamp_pb2.Timestamp
    horizon_end_time: _timestamp_pb2.Timestamp
    problems: _containers.RepeatedScalarFieldContainer[str]
    open_sales: int
    rules: str
    exposures_queued: int
    exposures_lost: int
    present_time: _timestamp_pb2.Timestamp
    experiments: _containers.ScalarMap[str, str]
    def __init__(self, process_id: _Optional[int] = ..., workers: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., snapshot: _Optional[str] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., horizon_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problems: _Optional[_Iterable[str]] = ..., open_sales: _Optional[int] = ..., rules: _Optional[str] = ..., exposures_queued: _Optional[int] = ..., exposures_lost: _Optional[int] = ..., present_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., experiments: _Optional[_Mapping[str, str]] = ...) -> None: ...
