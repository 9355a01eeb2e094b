from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PodRequest(_message.Message):
    __slots__ = ("pod", "container", "exec", "request_sandbox", "attested", "request_container", "start_container", "exit_of", "signal", "remove", "start_exec", "resize_exec", "forget_exec", "pause", "unpause", "limit")
    POD_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    EXEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SANDBOX_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_CONTAINER_FIELD_NUMBER: _ClassVar[int]
    START_CONTAINER_FIELD_NUMBER: _ClassVar[int]
    EXIT_OF_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    START_EXEC_FIELD_NUMBER: _ClassVar[int]
    RESIZE_EXEC_FIELD_NUMBER: _ClassVar[int]
    FORGET_EXEC_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    UNPAUSE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    pod: str
    container: str
    exec: str
    request_sandbox: RequestSandbox
    attested: Attested
    request_container: RequestContainer
    start_container: StartContainer
    exit_of: ExitOf
    signal: SendSignal
    remove: Remove
    start_exec: StartExec
    resize_exec: ResizeExec
    forget_exec: ForgetExec
    pause: Freeze
    unpause: Thaw
    limit: SetLimits
    def __init__(self, pod: _Optional[str] = ..., container: _Optional[str] = ..., exec: _Optional[str] = ..., request_sandbox: _Optional[_Union[RequestSandbox, _Mapping]] = ..., attested: _Optional[_Union[Attested, _Mapping]] = ..., request_container: _Optional[_Union[RequestContainer, _Mapping]] = ..., start_container: _Optional[_Union[StartContainer, _Mapping]] = ..., exit_of: _Optional[_Union[ExitOf, _Mapping]] = ..., signal: _Optional[_Union[SendSignal, _Mapping]] = ..., remove: _Optional[_Union[Remove, _Mapping]] = ..., start_exec: _Optional[_Union[StartExec, _Mapping]] = ..., resize_exec: _Optional[_Union[ResizeExec, _Mapping]] = ..., forget_exec: _Optional[_Union[ForgetExec, _Mapping]] = ..., pause: _Optional[_Union[Freeze, _Mapping]] = ..., unpause: _Optional[_Union[Thaw, _Mapping]] = ..., limit: _Optional[_Union[SetLimits, _Mapping]] = ...) -> None: ...

class Streams(_message.Message):
    __slots__ = ("stdin", "stdout", "stderr", "terminal")
    STDIN_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    def __init__(self, stdin: _Optional[str] = ..., stdout: _Optional[str] = ..., stderr: _Optional[str] = ..., terminal: _Optional[bool] = ...) -> None: ...

class RequestSandbox(_message.Message):
    __slots__ = ("bundle", "namespace", "name", "uid", "init_data_sha256", "hold_seconds", "prefetch")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    INIT_DATA_SHA256_FIELD_NUMBER: _ClassVar[int]
    HOLD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    namespace: str
    name: str
    uid: str
    init_data_sha256: str
    hold_seconds: int
    prefetch: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bundle: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., init_data_sha256: _Optional[str] = ..., hold_seconds: _Optional[int] = ..., prefetch: _Optional[_Iterable[str]] = ...) -> None: ...

class Attested(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RequestContainer(_message.Message):
    __slots__ = ("bundle", "name", "image", "process_sha256", "streams")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_SHA256_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    name: str
    image: str
    process_sha256: str
    streams: Streams
    def __init__(self, bundle: _Optional[str] = ..., name: _Optional[str] = ..., image: _Optional[str] = ..., process_sha256: _Optional[str] = ..., streams: _Optional[_Union[Streams, _Mapping]] = ...) -> None: ...

class StartContainer(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExitOf(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SendSignal(_message.Message):
    __slots__ = ("number", "everything")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    number: int
    everything: bool
    def __init__(self, number: _Optional[int] = ..., everything: _Optional[bool] = ...) -> None: ...

class Remove(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class StartExec(_message.Message):
    __slots__ = ("args", "streams")
    ARGS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    args: _containers.RepeatedScalarFieldContainer[str]
    streams: Streams
    def __init__(self, args: _Optional[_Iterable[str]] = ..., streams: _Optional[_Union[Streams, _Mapping]] = ...) -> None: ...

class ResizeExec(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...

class ForgetExec(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Freeze(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Thaw(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetLimits(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: bytes
    def __init__(self, resources: _Optional[bytes] = ...) -> None: ...

class PodReply(_message.Message):
    __slots__ = ("pid", "status", "exited_at_ns", "out_of_memory")
    PID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXITED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_MEMORY_FIELD_NUMBER: _ClassVar[int]
    pid: int
    status: int
    exited_at_ns: int
    out_of_memory: bool
    def __init__(self, pid: _Optional[int] = ..., status: _Optional[int] = ..., exited_at_ns: _Optional[int] = ..., out_of_memory: _Optional[bool] = ...) -> None: ...
