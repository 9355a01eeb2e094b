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
