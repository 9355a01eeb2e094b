from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Command(_message.Message):
    __slots__ = ("pod", "container", "transition", "attempt", "sequence", "deadline_ns")
    POD_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    pod: str
    container: str
    transition: str
    attempt: int
    sequence: int
    deadline_ns: int
    def __init__(self, pod: _Optional[str] = ..., container: _Optional[str] = ..., transition: _Optional[str] = ..., attempt: _Optional[int] = ..., sequence: _Optional[int] = ..., deadline_ns: _Optional[int] = ...) -> None: ...

class SignalRequest(_message.Message):
    __slots__ = ("runc_id", "signal", "all")
    RUNC_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    runc_id: str
    signal: int
    all: bool
    def __init__(self, runc_id: _Optional[str] = ..., signal: _Optional[int] = ..., all: _Optional[bool] = ...) -> None: ...

class SignalReply(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ExecRequest(_message.Message):
    __slots__ = ("runc_id", "exec", "start", "wait", "signal", "resize", "forget")
    RUNC_ID_FIELD_NUMBER: _ClassVar[int]
    EXEC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    runc_id: str
    exec: str
    start: ExecStart
    wait: ExecWait
    signal: ExecSignal
    resize: ExecResize
    forget: ExecForget
    def __init__(self, runc_id: _Optional[str] = ..., exec: _Optional[str] = ..., start: _Optional[_Union[ExecStart, _Mapping]] = ..., wait: _Optional[_Union[ExecWait, _Mapping]] = ..., signal: _Optional[_Union[ExecSignal, _Mapping]] = ..., resize: _Optional[_Union[ExecResize, _Mapping]] = ..., forget: _Optional[_Union[ExecForget, _Mapping]] = ...) -> None: ...

class ExecStart(_message.Message):
    __slots__ = ("args", "terminal", "stdin", "stdout", "stderr")
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    args: _containers.RepeatedScalarFieldContainer[str]
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    def __init__(self, args: _Optional[_Iterable[str]] = ..., terminal: _Optional[bool] = ..., stdin: _Optional[str] = ..., stdout: _Optional[str] = ..., stderr: _Optional[str] = ...) -> None: ...

class ExecWait(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    def __init__(self, seconds: _Optional[int] = ...) -> None: ...

class ExecSignal(_message.Message):
    __slots__ = ("signal",)
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    signal: int
    def __init__(self, signal: _Optional[int] = ...) -> None: ...

class ExecResize(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...

class ExecForget(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExecReply(_message.Message):
    __slots__ = ("code", "message", "expected", "got", "advice", "pid", "ended", "status", "exited_at_ns")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXITED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    expected: str
    got: str
    advice: str
    pid: int
    ended: bool
    status: int
    exited_at_ns: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., expected: _Optional[str] = ..., got: _Optional[str] = ..., advice: _Optional[str] = ..., pid: _Optional[int] = ..., ended: _Optional[bool] = ..., status: _Optional[int] = ..., exited_at_ns: _Optional[int] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("runc_id", "pause", "unpause", "limit")
    RUNC_ID_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    UNPAUSE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    runc_id: str
    pause: Pause
    unpause: Unpause
    limit: Limit
    def __init__(self, runc_id: _Optional[str] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., unpause: _Optional[_Union[Unpause, _Mapping]] = ..., limit: _Optional[_Union[Limit, _Mapping]] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Unpause(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limit(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: bytes
    def __init__(self, resources: _Optional[bytes] = ...) -> None: ...

class ControlReply(_message.Message):
    __slots__ = ("code", "message", "expected", "got", "advice")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    expected: str
    got: str
    advice: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., expected: _Optional[str] = ..., got: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...
