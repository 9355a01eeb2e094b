"""The owner's launch policy as a value. Format, defaults and examples: docs/formats/policies.md.

Everything is denied that no rule admits; an unknown member refuses the whole document, so that a misspelled rule is
never an absent one. Several rules for one image are alternatives.

A rule names its image by repository or by digest, never by tag: a tag is the registry's word. That a digest belongs to
a repository is what the image policy's signature proves, so a rule by repository is as strong as that policy.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from schemas.recipients import Recipient
from schemas.sealed_output import MOST_RECIPIENTS
from schemas.strict_json import JsonObject, Malformed
from workers.enclave.image.document import parse_object
from workers.enclave.image.reference import DIGEST_RULE, parse_name
from workers.enclave.image.resource import resource_uri
from workers.enclave.launch_policy.matcher import Exactly, Matcher, Pattern, parse_matcher
from workers.enclave.launch_policy.proposal import CAPABILITY_RULE, RLIMIT_RULE, USER_RULE, is_plain_path

if TYPE_CHECKING:
    from workers.enclave.image.document import Node
    from workers.enclave.image.reference import Reference

LONGEST_POLICY: Final = 1024 * 1024
_MOST: Final = 1024

DEFAULT_CAPABILITIES: Final = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)
"""What container engines grant by default, and what a rule admits that says nothing of capabilities."""

DEFAULT_DROPPED_ENV: Final[tuple[Matcher, ...]] = (
    Exactly("HOSTNAME"),
    Exactly("TERM"),
    Pattern(re.compile(r"KUBERNETES_[A-Z0-9_]+")),
    Pattern(
        re.compile(r"[A-Z][A-Z0-9_]*_(?:SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|PORT(?:_[0-9]+_[A-Z]+(?:_[A-Z]+)?)?)")
    ),
)
"""What Kubernetes and containerd add to every container unasked: left out, where no rule admits it, and not denied."""

DEFAULT_DROPPED_MOUNTS: Final[tuple[Matcher, ...]] = (
    *(Exactly(path) for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log")),
    Pattern(re.compile(r"(?:/var)?/run/secrets/kubernetes\.io/serviceaccount")),
)
"""The mounts that Kubernetes adds unasked: as DEFAULT_DROPPED_ENV."""


@dataclass(frozen=True, slots=True)
class ImageScope:
    """Which images a rule or a secret is for. At least one of both is set; where both are, both must fit."""

    repository: str | None
    digest: str | None

    def covers(self, image: Reference) -> bool:
        """Whether `image`, pinned by digest, is one of them."""
        return self.repository in {None, image.repository} and self.digest in {None, image.digest}

    def __str__(self) -> str:
        return "@".join(part for part in (self.repository, self.digest) if part)


@dataclass(frozen=True, slots=True)
class ArgsRule:
    """An argument list, one matcher a place; `rest` admits any number more."""

    places: tuple[Matcher, ...]
    rest: Matcher | None

    def admits(self, argv: tuple[str, ...]) -> bool:
        """Whether every argument is admitted and none is missing."""
        if len(argv) < len(self.places) or (self.rest is None and len(argv) > len(self.places)):
            return False
        fixed = all(place.admits(word) for place, word in zip(self.places, argv, strict=False))
        return fixed and all(self.rest.admits(word) for word in argv[len(self.places) :] if self.rest)

    def __str__(self) -> str:
        return f"[{', '.join([*map(str, self.places), *([f'{self.rest} …'] if self.rest else [])])}]"


@dataclass(frozen=True, slots=True)
class EnvRule:
    """A variable the host may set, and to what."""

    name: Matcher
    value: Matcher


@dataclass(frozen=True, slots=True)
class MountRule:
    """A destination where the host may put something of its own.

    Without a `volume` that is host data: the content is the host's word, taken once, and where `sha256` (hex) is set it
    is that of what is admitted. With one, the host keeps ciphertext under a key of this volume, made from the pod's key
    or, where `key` is set, from that resource of the broker.
    """

    destination: Matcher
    read_only: bool
    sha256: str = ""
    volume: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class ExecRule:
    """A command that the host may start beside the workload. `probe`: one that is expected often, and told seldom."""

    name: str
    args: ArgsRule
    terminal: bool
    probe: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """What one image's process may be. None means: as the image itself says."""

    name: str
    image: ImageScope
    args: ArgsRule | None
    env: tuple[EnvRule, ...]
    env_dropped: tuple[Matcher, ...]
    cwd: tuple[Matcher, ...] | None
    users: tuple[str, ...] | None
    additional_gids: frozenset[int]
    capabilities: frozenset[str]
    rlimits: frozenset[str] | None
    mounts: tuple[MountRule, ...]
    mounts_dropped: tuple[Matcher, ...]
    hostname: Matcher | None
    terminal: bool
    no_new_privileges: bool
    read_only_root: bool
    execs: tuple[ExecRule, ...] = ()
    output: tuple[Recipient, ...] = ()


@dataclass(frozen=True, slots=True)
class Secret:
    """A resource of the key broker that the agent fetches and delivers inside: as a file or as a variable."""

    image: ImageScope
    uri: str
    path: str | None
    mode: int
    env: str | None


@dataclass(frozen=True, slots=True)
class LaunchPolicy:
    """A parsed policy. `policy_id` is `sha256:<hex>` of the document's bytes."""

    policy_id: str
    boot_measurements: frozenset[str]
    rules: tuple[Rule, ...]
    secrets: tuple[Secret, ...]

    @classmethod
    def parse(cls, raw: bytes) -> LaunchPolicy:
        """Parse a document of at most 1 MiB.

        Raises:
            Permanent: CONFIG_POLICY, naming the place.
        """
        document = parse_object(raw, what="launch policy", code=Code.CONFIG_POLICY, limit=LONGEST_POLICY)
        document.need("version").whole(least=1, most=1)
        measurements = [entry.text(_MEASUREMENT) for entry in document.need("boot_measurements").elements(most=_MOST)]
        rules = tuple(_rule(entry, place) for place, entry in enumerate(document.need("rules").elements(most=_MOST)))
        secrets = tuple(_secret(entry) for entry in _elements(document.get("secrets")))
        document.finish()
        _check_names(document, rules)
        return cls(f"sha256:{hashlib.sha256(raw).hexdigest()}", frozenset(measurements), rules, secrets)

    def rules_for(self, image: Reference) -> tuple[Rule, ...]:
        """The rules for an image that is pinned by digest, in the document's order."""
        return tuple(rule for rule in self.rules if rule.image.covers(image))

    def execs_of(self, rule: str) -> tuple[ExecRule, ...]:
        """The commands that may run beside a process which the rule of that name admitted."""
        return tuple(entry for known in self.rules if known.name == rule for entry in known.execs)

    def recipients_of(self, rule: str) -> tuple[Recipient, ...]:
        """Whom the output is sealed for, of a process which the rule of that name admitted; nobody: it is not."""
        return next((known.output for known in self.rules if known.name == rule), ())

    def secrets_for(self, image: Reference) -> tuple[Secret, ...]:
        """The secrets of an image that is pinned by digest."""
        return tuple(secret for secret in self.secrets if secret.image.covers(image))


_MEASUREMENT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MODE: Final = re.compile(r"0[0-7]{3}", re.ASCII)
_NO_SECRETS_UNDER: Final = ("/proc", "/sys", "/dev")


def _rule(node: Node, place: int) -> Rule:
    name = node.get("name")
    capabilities = _names(node.get("capabilities"), CAPABILITY_RULE)
    rule = Rule(
        name=name.text(_NAME) if name else f"rule-{place}",
        image=_scope(node.need("image")),
        args=_args(node.get("args")),
        env=tuple(_env(entry) for entry in _elements(node.get("env"))),
        env_dropped=_matchers(node.get("env_dropped"), DEFAULT_DROPPED_ENV),
        cwd=_matchers(cwd, ()) if (cwd := _own(node.get("cwd"))) else None,
        users=tuple(u.text(USER_RULE) for u in _elements(users)) if (users := _own(node.get("users"))) else None,
        additional_gids=frozenset(g.whole(most=(1 << 32) - 2) for g in _elements(node.get("additional_gids"))),
        capabilities=DEFAULT_CAPABILITIES if capabilities is None else capabilities,
        rlimits=_names(node.get("rlimits"), RLIMIT_RULE),
        mounts=tuple(_mount(entry) for entry in _elements(node.get("mounts"))),
        mounts_dropped=_matchers(node.get("mounts_dropped"), DEFAULT_DROPPED_MOUNTS),
        hostname=parse_matcher(hostname) if (hostname := node.get("hostname")) else None,
        terminal=_flag(node.get("terminal")),
        no_new_privileges=_flag(node.get("no_new_privileges")),
        read_only_root=_flag(node.get("read_only_root")),
        execs=tuple(_exec(entry, number) for number, entry in enumerate(_elements(node.get("exec")))),
        output=_output(output) if (output := node.get("output")) else (),
    )
    node.finish()
    return rule


def _check_names(document: Node, rules: tuple[Rule, ...]) -> None:
    """A container remembers the rule that admitted it by its name: what that one says must be of no other."""
    names = [rule.name for rule in rules]
    for rule in rules:
        if (rule.execs or rule.output) and names.count(rule.name) > 1:
            raise document.need("rules").malformed(
                "a name of its own for each rule with exec or output", f"{rule.name} twice"
            )


def _exec(node: Node, place: int) -> ExecRule:
    name, args = node.get("name"), _args(node.need("args"))
    if args is None:
        raise node.malformed("a list of arguments", '{"from_image": true}')
    rule = ExecRule(
        name.text(_NAME) if name else f"exec-{place}", args, _flag(node.get("terminal")), _flag(node.get("probe"))
    )
    node.finish()
    return rule


def _output(node: Node) -> tuple[Recipient, ...]:
    """At least one: an empty list would look like sealed output and be none."""
    listed = node.need("sealed_for")
    recipients = tuple(_recipient(entry) for entry in listed.elements(most=MOST_RECIPIENTS))
    if not recipients or len(set(recipients)) != len(recipients):
        raise listed.malformed("at least one key, each once", "one twice" if recipients else "none")
    node.finish()
    return recipients


def _recipient(node: Node) -> Recipient:
    names = ("kty", "crv", "x", "y", "kid", "use", "alg")
    members: JsonObject = {name: member.text() for name in names if (member := node.get(name)) is not None}
    node.finish()
    try:
        return Recipient.parse(members)
    except Malformed as malformed:
        raise node.malformed("a public key (JWK) on P-256 or X25519", str(malformed)) from None


def _scope(node: Node) -> ImageScope:
    text = node.text()
    if DIGEST_RULE.fullmatch(text):
        return ImageScope(None, text)
    try:
        name = parse_name(text)
    except Permanent as fault:
        raise node.malformed(fault.diagnosis.expected, ascii(text[:200])) from None
    if name.tag is not None:
        raise node.malformed("a repository or a digest", "a tag, which is the registry's word")
    return ImageScope(name.repository, name.digest)


def _own(node: Node | None) -> Node | None:
    """None for an absent member and for `{"from_image": true}`, which says the default aloud."""
    if node is None or not node.is_object:
        return node
    if not node.need("from_image").flag():
        raise node.malformed('a list, or {"from_image": true}', '"from_image": false')
    node.finish()
    return None


def _args(node: Node | None) -> ArgsRule | None:
    own = _own(node)
    if own is None:
        return None
    places = own.elements(most=_MOST)
    if not places:
        raise own.malformed("at least one argument", "none")
    last = places[-1]
    rest = last.get("repeat") if last.is_object else None
    if rest is None:
        return ArgsRule(tuple(parse_matcher(place) for place in places), None)
    last.finish()
    return ArgsRule(tuple(parse_matcher(place) for place in places[:-1]), parse_matcher(rest))


def _env(node: Node) -> EnvRule:
    rule = EnvRule(parse_matcher(node.need("name")), parse_matcher(node.need("value")))
    node.finish()
    return rule


def _mount(node: Node) -> MountRule:
    destination = node.get("destination") if node.is_object else None
    if destination is None:
        return MountRule(parse_matcher(node), read_only=False)
    sha256, volume, key = (node.get(name) for name in ("sha256", "volume", "key"))
    if volume is None and key is not None:
        raise node.malformed("a key only with the volume that it is for", "key without volume")
    if volume is not None and sha256 is not None:
        raise node.malformed("sha256 or volume", "both: a volume's content is the workload's own")
    rule = MountRule(
        parse_matcher(destination),
        _flag(node.get("read_only")),
        sha256.text(_MEASUREMENT) if sha256 else "",
        volume.text(_NAME) if volume else "",
        resource_uri(key) if key else "",
    )
    node.finish()
    return rule


def _secret(node: Node) -> Secret:
    path, env, mode = node.get("path"), node.get("env"), node.get("mode")
    if (path is None) == (env is None):
        raise node.malformed("exactly one of path and env", "both or none")
    where = path.text(longest=4096) if path else None
    if (
        path
        and where
        and (not is_plain_path(where) or f"{where}/".startswith(tuple(f"{u}/" for u in _NO_SECRETS_UNDER)))
    ):
        raise path.malformed("an absolute path outside /proc, /sys and /dev, without '.' and '..'", "another")
    secret = Secret(
        _scope(node.need("image")),
        resource_uri(node.need("uri")),
        where,
        int(mode.text(_MODE), 8) if mode else 0o400,
        env.text(_VARIABLE) if env else None,
    )
    node.finish()
    return secret


def _elements(node: Node | None) -> list[Node]:
    return node.elements(most=_MOST) if node else []


def _matchers(node: Node | None, default: tuple[Matcher, ...]) -> tuple[Matcher, ...]:
    return tuple(parse_matcher(entry) for entry in node.elements(most=_MOST)) if node else default


def _names(node: Node | None, pattern: re.Pattern[str]) -> frozenset[str] | None:
    return frozenset(entry.text(pattern) for entry in node.elements(most=_MOST)) if node else None


def _flag(node: Node | None) -> bool:
    return node.flag() if node else False
