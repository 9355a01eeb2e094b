from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

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
