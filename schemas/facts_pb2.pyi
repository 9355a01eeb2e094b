from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Zone(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ZONE_UNSPECIFIED: _ClassVar[Zone]
    ZONE_HOST: _ClassVar[Zone]
    ZONE_ENCLAVE: _ClassVar[Zone]
ZONE_UNSPECIFIED: Zone
ZONE_HOST: Zone
ZONE_ENCLAVE: Zone

class Envelope(_message.Message):
    __slots__ = ("id", "index", "previous", "statement", "signature")
    ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    index: int
    previous: bytes
    statement: bytes
    signature: bytes
    def __init__(self, id: _Optional[bytes] = ..., index: _Optional[int] = ..., previous: _Optional[bytes] = ..., statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Statement(_message.Message):
    __slots__ = ("pod", "container", "zone", "actor", "at_ns", "attempt", "pod_requested", "sandbox_created", "agent_up", "attested", "container_requested", "image_decrypted", "fs_sealed", "start_requested", "app_started", "config_delivered", "app_booted", "step_failed", "exited", "stop_requested", "torn_down", "agent_lost", "resume_requested", "forked_from", "exec_admitted", "exec_refused")
    POD_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    POD_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_CREATED_FIELD_NUMBER: _ClassVar[int]
    AGENT_UP_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DECRYPTED_FIELD_NUMBER: _ClassVar[int]
    FS_SEALED_FIELD_NUMBER: _ClassVar[int]
    START_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    APP_STARTED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DELIVERED_FIELD_NUMBER: _ClassVar[int]
    APP_BOOTED_FIELD_NUMBER: _ClassVar[int]
    STEP_FAILED_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    STOP_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    TORN_DOWN_FIELD_NUMBER: _ClassVar[int]
    AGENT_LOST_FIELD_NUMBER: _ClassVar[int]
    RESUME_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    FORKED_FROM_FIELD_NUMBER: _ClassVar[int]
    EXEC_ADMITTED_FIELD_NUMBER: _ClassVar[int]
    EXEC_REFUSED_FIELD_NUMBER: _ClassVar[int]
    pod: str
    container: str
    zone: Zone
    actor: str
    at_ns: int
    attempt: int
    pod_requested: PodRequested
    sandbox_created: SandboxCreated
    agent_up: AgentUp
    attested: Attested
    container_requested: ContainerRequested
    image_decrypted: ImageDecrypted
    fs_sealed: FsSealed
    start_requested: StartRequested
    app_started: AppStarted
    config_delivered: ConfigDelivered
    app_booted: AppBooted
    step_failed: StepFailed
    exited: Exited
    stop_requested: StopRequested
    torn_down: TornDown
    agent_lost: AgentLost
    resume_requested: ResumeRequested
    forked_from: ForkedFrom
    exec_admitted: ExecAdmitted
    exec_refused: ExecRefused
    def __init__(self, pod: _Optional[str] = ..., container: _Optional[str] = ..., zone: _Optional[_Union[Zone, str]] = ..., actor: _Optional[str] = ..., at_ns: _Optional[int] = ..., attempt: _Optional[int] = ..., pod_requested: _Optional[_Union[PodRequested, _Mapping]] = ..., sandbox_created: _Optional[_Union[SandboxCreated, _Mapping]] = ..., agent_up: _Optional[_Union[AgentUp, _Mapping]] = ..., attested: _Optional[_Union[Attested, _Mapping]] = ..., container_requested: _Optional[_Union[ContainerRequested, _Mapping]] = ..., image_decrypted: _Optional[_Union[ImageDecrypted, _Mapping]] = ..., fs_sealed: _Optional[_Union[FsSealed, _Mapping]] = ..., start_requested: _Optional[_Union[StartRequested, _Mapping]] = ..., app_started: _Optional[_Union[AppStarted, _Mapping]] = ..., config_delivered: _Optional[_Union[ConfigDelivered, _Mapping]] = ..., app_booted: _Optional[_Union[AppBooted, _Mapping]] = ..., step_failed: _Optional[_Union[StepFailed, _Mapping]] = ..., exited: _Optional[_Union[Exited, _Mapping]] = ..., stop_requested: _Optional[_Union[StopRequested, _Mapping]] = ..., torn_down: _Optional[_Union[TornDown, _Mapping]] = ..., agent_lost: _Optional[_Union[AgentLost, _Mapping]] = ..., resume_requested: _Optional[_Union[ResumeRequested, _Mapping]] = ..., forked_from: _Optional[_Union[ForkedFrom, _Mapping]] = ..., exec_admitted: _Optional[_Union[ExecAdmitted, _Mapping]] = ..., exec_refused: _Optional[_Union[ExecRefused, _Mapping]] = ...) -> None: ...

class PodRequested(_message.Message):
    __slots__ = ("node", "namespace", "name", "uid", "bundle", "init_data_sha256", "hold_seconds", "operators", "prefetch")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    INIT_DATA_SHA256_FIELD_NUMBER: _ClassVar[int]
    HOLD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    node: str
    namespace: str
    name: str
    uid: str
    bundle: str
    init_data_sha256: str
    hold_seconds: int
    operators: _containers.RepeatedScalarFieldContainer[bytes]
    prefetch: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., bundle: _Optional[str] = ..., init_data_sha256: _Optional[str] = ..., hold_seconds: _Optional[int] = ..., operators: _Optional[_Iterable[bytes]] = ..., prefetch: _Optional[_Iterable[str]] = ...) -> None: ...

class SandboxCreated(_message.Message):
    __slots__ = ("runc_id", "pid", "netns")
    RUNC_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    NETNS_FIELD_NUMBER: _ClassVar[int]
    runc_id: str
    pid: int
    netns: str
    def __init__(self, runc_id: _Optional[str] = ..., pid: _Optional[int] = ..., netns: _Optional[str] = ...) -> None: ...

class AgentUp(_message.Message):
    __slots__ = ("runc_id", "pid", "libos", "bundle_sha256", "measurement")
    RUNC_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    LIBOS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    runc_id: str
    pid: int
    libos: str
    bundle_sha256: str
    measurement: str
    def __init__(self, runc_id: _Optional[str] = ..., pid: _Optional[int] = ..., libos: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., measurement: _Optional[str] = ...) -> None: ...

class Attested(_message.Message):
    __slots__ = ("quote", "measurement", "tcb_status", "simulated", "token_sha256", "event_public_key", "kbs")
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    TCB_STATUS_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SHA256_FIELD_NUMBER: _ClassVar[int]
    EVENT_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    KBS_FIELD_NUMBER: _ClassVar[int]
    quote: bytes
    measurement: str
    tcb_status: str
    simulated: bool
    token_sha256: str
    event_public_key: bytes
    kbs: str
    def __init__(self, quote: _Optional[bytes] = ..., measurement: _Optional[str] = ..., tcb_status: _Optional[str] = ..., simulated: _Optional[bool] = ..., token_sha256: _Optional[str] = ..., event_public_key: _Optional[bytes] = ..., kbs: _Optional[str] = ...) -> None: ...

class ContainerRequested(_message.Message):
    __slots__ = ("image", "bundle", "stdin", "stdout", "stderr", "terminal", "name", "process_sha256")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROCESS_SHA256_FIELD_NUMBER: _ClassVar[int]
    image: str
    bundle: str
    stdin: str
    stdout: str
    stderr: str
    terminal: bool
    name: str
    process_sha256: str
    def __init__(self, image: _Optional[str] = ..., bundle: _Optional[str] = ..., stdin: _Optional[str] = ..., stdout: _Optional[str] = ..., stderr: _Optional[str] = ..., terminal: _Optional[bool] = ..., name: _Optional[str] = ..., process_sha256: _Optional[str] = ...) -> None: ...

class ImageDecrypted(_message.Message):
    __slots__ = ("reference", "manifest_digest", "policy", "verdict", "key_ids", "bytes", "nanoseconds")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    reference: str
    manifest_digest: str
    policy: str
    verdict: str
    key_ids: _containers.RepeatedScalarFieldContainer[str]
    bytes: int
    nanoseconds: int
    def __init__(self, reference: _Optional[str] = ..., manifest_digest: _Optional[str] = ..., policy: _Optional[str] = ..., verdict: _Optional[str] = ..., key_ids: _Optional[_Iterable[str]] = ..., bytes: _Optional[int] = ..., nanoseconds: _Optional[int] = ...) -> None: ...

class FsSealed(_message.Message):
    __slots__ = ("root_hash", "files", "bytes", "store")
    ROOT_HASH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    root_hash: str
    files: int
    bytes: int
    store: str
    def __init__(self, root_hash: _Optional[str] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., store: _Optional[str] = ...) -> None: ...

class StartRequested(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AppStarted(_message.Message):
    __slots__ = ("runc_id", "pid", "measurement")
    RUNC_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    runc_id: str
    pid: int
    measurement: str
    def __init__(self, runc_id: _Optional[str] = ..., pid: _Optional[int] = ..., measurement: _Optional[str] = ...) -> None: ...

class ConfigDelivered(_message.Message):
    __slots__ = ("config_sha256", "verdict", "measurement", "output_key_ids", "output_head_sha256", "host_data")
    CONFIG_SHA256_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_HEAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    HOST_DATA_FIELD_NUMBER: _ClassVar[int]
    config_sha256: str
    verdict: str
    measurement: str
    output_key_ids: _containers.RepeatedScalarFieldContainer[str]
    output_head_sha256: str
    host_data: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, config_sha256: _Optional[str] = ..., verdict: _Optional[str] = ..., measurement: _Optional[str] = ..., output_key_ids: _Optional[_Iterable[str]] = ..., output_head_sha256: _Optional[str] = ..., host_data: _Optional[_Iterable[str]] = ...) -> None: ...

class AppBooted(_message.Message):
    __slots__ = ("nanoseconds", "process")
    NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    nanoseconds: int
    process: int
    def __init__(self, nanoseconds: _Optional[int] = ..., process: _Optional[int] = ...) -> None: ...

class StepFailed(_message.Message):
    __slots__ = ("transition", "code", "message", "expected", "got", "advice", "temporary")
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    TEMPORARY_FIELD_NUMBER: _ClassVar[int]
    transition: str
    code: str
    message: str
    expected: str
    got: str
    advice: str
    temporary: bool
    def __init__(self, transition: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., expected: _Optional[str] = ..., got: _Optional[str] = ..., advice: _Optional[str] = ..., temporary: _Optional[bool] = ...) -> None: ...

class Exited(_message.Message):
    __slots__ = ("code", "exited_at_ns", "out_of_memory")
    CODE_FIELD_NUMBER: _ClassVar[int]
    EXITED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_MEMORY_FIELD_NUMBER: _ClassVar[int]
    code: int
    exited_at_ns: int
    out_of_memory: bool
    def __init__(self, code: _Optional[int] = ..., exited_at_ns: _Optional[int] = ..., out_of_memory: _Optional[bool] = ...) -> None: ...

class StopRequested(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class TornDown(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, removed: _Optional[_Iterable[str]] = ...) -> None: ...

class AgentLost(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: int
    def __init__(self, code: _Optional[int] = ...) -> None: ...

class ExecAdmitted(_message.Message):
    __slots__ = ("exec", "rule", "args", "terminal", "times")
    EXEC_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    exec: str
    rule: str
    args: _containers.RepeatedScalarFieldContainer[str]
    terminal: bool
    times: int
    def __init__(self, exec: _Optional[str] = ..., rule: _Optional[str] = ..., args: _Optional[_Iterable[str]] = ..., terminal: _Optional[bool] = ..., times: _Optional[int] = ...) -> None: ...

class ExecRefused(_message.Message):
    __slots__ = ("exec", "code", "reason", "times")
    EXEC_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    exec: str
    code: str
    reason: str
    times: int
    def __init__(self, exec: _Optional[str] = ..., code: _Optional[str] = ..., reason: _Optional[str] = ..., times: _Optional[int] = ...) -> None: ...

class ResumeRequested(_message.Message):
    __slots__ = ("start", "reason", "by", "operator")
    START_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    start: str
    reason: str
    by: str
    operator: bytes
    def __init__(self, start: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ..., operator: _Optional[bytes] = ...) -> None: ...

class ForkedFrom(_message.Message):
    __slots__ = ("pod", "index", "digest", "overrides", "reason", "by", "operator")
    POD_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    pod: str
    index: int
    digest: bytes
    overrides: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    by: str
    operator: bytes
    def __init__(self, pod: _Optional[str] = ..., index: _Optional[int] = ..., digest: _Optional[bytes] = ..., overrides: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ..., operator: _Optional[bytes] = ...) -> None: ...
