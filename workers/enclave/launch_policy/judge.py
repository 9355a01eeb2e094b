"""Rule against proposal: the one place where a host's wish becomes a process, or does not.

For the image at hand (its name and digest proved by its signature), in this order:

1. A rule is for this image.
2. The arguments are the rule's, or the image's own.
3. Each variable is the image's own, or one the rule admits with this value; what Kubernetes adds unasked is left out.
4. The working directory, 5. the user and groups, 6. the capabilities and limits are the rule's, or the image's own.
7. Each mount is one the boot init makes itself, or one the rule admits, or one that is left out; none hides or holds a
   place where a secret is delivered.
8. Devices, a terminal, a host name: as the rule says.

Where several rules are for one image, the first that admits everything wins; a denial then tells why each did not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orchestrator.faults import Code, Permanent
from workers.enclave.launch_policy.approved import ApprovedMount, ApprovedProcess, ApprovedSecret
from workers.enclave.launch_policy.proposal import Proposal, Rlimit, normal_directory, parse_proposal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workers.enclave.image.manifest import ImageConfig
    from workers.enclave.image.reference import Reference
    from workers.enclave.launch_policy.document import LaunchPolicy, Rule, Secret

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What container engines set where an image sets none."""

MADE_INSIDE: Final = frozenset(
    {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"}  # noqa: S108 - a mount point
)
"""Destinations where the boot init mounts the kernel's own; whatever the host proposes there is left out."""

_NO_CORE: Final = Rlimit("RLIMIT_CORE", 1, 1)
"""No core dump anywhere: the kernel ignores 0 where /proc/sys/kernel/core_pattern pipes dumps to a program, and takes 1
as a refusal there (core(5); fs/coredump.c); as a file's size 1 is too small for any."""

_HOSTNAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


def judge_process(
    policy: LaunchPolicy, image: Reference, config: ImageConfig, proposed: Mapping[str, object]
) -> ApprovedProcess:
    """Judge what the host wants to run.

    Args:
        policy: the owner's.
        image: pinned by the digest that was verified; `pull.ImagePlan.reference`.
        config: that image's configuration.
        proposed: the OCI runtime specification, as parsed JSON.

    Raises:
        Permanent: CONFIG_PROCESS_DENIED, naming the field, what was expected and what was got.
    """
    if image.digest is None:
        raise ValueError("only an image that is pinned by digest can be judged")
    proposal = parse_proposal(proposed)
    rules = policy.rules_for(image)
    secrets = policy.secrets_for(image)
    refusals: list[tuple[Rule, Permanent]] = []
    for rule in rules:
        try:
            return _Judgement(policy, rule, secrets, config, proposal).approve()
        except Permanent as fault:
            refusals.append((rule, fault))
    if not refusals:
        named = sorted({str(rule.image) for rule in policy.rules})
        raise _denied("image", ", ".join(named)[:1000] or "no image: the policy has no rule", str(image))
    if len(refusals) == 1:
        raise refusals[0][1]
    raise _denied(
        f"process, by any of {len(refusals)} rules",
        "; ".join(f"{rule.name}: {fault.diagnosis.expected}" for rule, fault in refusals)[:3000],
        "; ".join(f"{rule.name}: {fault.diagnosis.message}" for rule, fault in refusals)[:3000],
    )


class _Judgement:
    """One rule against one proposal. `left_out` collects what is neither admitted nor denied, for the verdict."""

    def __init__(
        self, policy: LaunchPolicy, rule: Rule, secrets: tuple[Secret, ...], config: ImageConfig, proposal: Proposal
    ) -> None:
        self.policy = policy
        self.rule = rule
        self.secrets = secrets
        self.config = config
        self.wish = proposal
        self.left_out: list[str] = []

    def approve(self) -> ApprovedProcess:
        wish, rule = self.wish, self.rule
        argv = self._argv()
        env = self._env()
        cwd = self._cwd()
        user = self._user()
        groups = self._groups()
        self._check_capabilities()
        rlimits = self._rlimits()
        mounts = tuple(self._mounts())
        self._check_rest()
        sealed = [f"{m.destination} as {m.volume} under {m.key or 'the key of the pod'}" for m in mounts if m.volume]
        details = f"; encrypted: {', '.join(sealed)}" if sealed else ""
        details += f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return ApprovedProcess(
            argv=argv,
            env=env,
            cwd=cwd,
            user=user,
            additional_gids=groups,
            capabilities=wish.capabilities,
            rlimits=rlimits,
            no_new_privileges=wish.no_new_privileges or rule.no_new_privileges,
            terminal=wish.terminal,
            mounts=mounts,
            secrets=tuple(ApprovedSecret(s.uri, s.path or "", s.mode, s.env or "") for s in self.secrets),
            hostname=wish.hostname,
            read_only_root=wish.read_only_root or rule.read_only_root,
            memory_limit=wish.memory_limit,
            policy_id=self.policy.policy_id,
            rule=rule.name,
            verdict=f"admitted by rule {rule.name} for {rule.image}{details}"[:2000],
        )

    def _argv(self) -> tuple[str, ...]:
        """Check 2."""
        argv = self.wish.argv
        if self.rule.args is None:
            if not argv or argv != self.config.argv:
                raise _denied("process.args", f"the image's own {list(self.config.argv)!r}", repr(list(argv)))
        elif not self.rule.args.admits(argv):
            raise _denied("process.args", str(self.rule.args), repr(list(argv)))
        return argv

    def _env(self) -> tuple[str, ...]:
        """Check 3. Values of the host are compared, never quoted: some of them are somebody's passwords."""
        env = {"PATH": DEFAULT_PATH}
        env.update(_pair(entry) for entry in self.config.env)
        delivered = {secret.env for secret in self.secrets}
        for name, value in self.wish.env:
            if name in delivered:
                raise _denied(f"process.env {name}", "no value: it is a secret, delivered inside", "a value")
            if env.get(name) == value:
                continue
            rules = [rule for rule in self.rule.env if rule.name.admits(name)]
            if any(rule.value.admits(value) for rule in rules):
                env[name] = value
            elif rules:
                expected = " or ".join(str(rule.value) for rule in rules)
                raise _denied(f"process.env {name}", expected, f"another value, {len(value)} characters")
            elif any(matcher.admits(name) for matcher in self.rule.env_dropped):
                self.left_out.append(f"env {name}")
            else:
                raise _denied(f"process.env {name}", "the image's own value, or a rule that admits it", "neither")
        return tuple(f"{name}={value}" for name, value in env.items() if name not in delivered)

    def _cwd(self) -> str:
        """Check 4."""
        cwd, own = self.wish.cwd, normal_directory(self.config.working_dir or "/")
        if self.rule.cwd is None:
            if cwd != own:
                raise _denied("process.cwd", f"the image's own {own!r}", repr(cwd))
        elif not any(matcher.admits(cwd) for matcher in self.rule.cwd):
            raise _denied("process.cwd", " or ".join(map(str, self.rule.cwd)), repr(cwd))
        return cwd

    def _user(self) -> str:
        """Check 5. A number must be the host's too; a name is resolved inside, and the host's number means nothing."""
        admitted = (self.config.user or "0",) if self.rule.users is None else self.rule.users
        numbered = [user for user in admitted if _NUMBER.fullmatch(user.partition(":")[0])]
        for user in numbered:
            uid, _, gid = user.partition(":")
            if int(uid) == self.wish.uid and (not _NUMBER.fullmatch(gid) or int(gid) == self.wish.gid):
                return user
        named = [user for user in admitted if user not in numbered]
        if named:
            return named[0]
        raise _denied("process.user", " or ".join(admitted) or "no user", f"{self.wish.uid}:{self.wish.gid}")

    def _groups(self) -> tuple[int, ...]:
        """Check 5. The primary group stands in the host's list too, but it is the image's to say, not the host's."""
        extra = set(self.wish.additional_gids) - self.rule.additional_gids - {self.wish.gid}
        if extra:
            admitted = ", ".join(map(str, sorted(self.rule.additional_gids)))
            raise _denied("process.user.additionalGids", admitted or "none", ", ".join(map(str, sorted(extra))))
        return tuple(sorted(self.rule.additional_gids.intersection(self.wish.additional_gids)))

    def _check_capabilities(self) -> None:
        """Check 6."""
        extra = self.wish.capabilities.every() - self.rule.capabilities
        if extra:
            admitted = ", ".join(sorted(self.rule.capabilities))
            raise _denied("process.capabilities", admitted or "none", ", ".join(sorted(extra)))

    def _rlimits(self) -> tuple[Rlimit, ...]:
        """Check 6. Limits are resources, which the host gives or not; a core dump is the app's memory on a disk."""
        admitted, limits = self.rule.rlimits, []
        for limit in self.wish.rlimits:
            core = limit.kind == _NO_CORE.kind
            if core and limit.hard <= _NO_CORE.hard:
                continue
            if core if admitted is None else limit.kind not in admitted:
                expected = "any but RLIMIT_CORE" if admitted is None else ", ".join(sorted(admitted)) or "none"
                raise _denied("process.rlimits", expected, limit.kind)
            limits.append(limit)
        if any(limit.kind == _NO_CORE.kind for limit in limits):
            return tuple(limits)
        return (*limits, _NO_CORE)

    def _mounts(self) -> Iterable[ApprovedMount]:
        """Check 7."""
        for mount in self.wish.mounts:
            where = mount.destination
            if where in MADE_INSIDE:
                continue
            rule = next((rule for rule in self.rule.mounts if rule.destination.admits(where)), None)
            if rule is None:
                if not any(matcher.admits(where) for matcher in self.rule.mounts_dropped):
                    admitted = " or ".join(str(rule.destination) for rule in self.rule.mounts)
                    raise _denied(f"mounts {where}", admitted or "no mount of the host's", mount.kind)
                self.left_out.append(f"mount {where}")
                continue
            if where == "/" or _is_under(where, MADE_INSIDE):
                raise _denied(f"mounts {where}", "no mount over the root, /proc, /dev or /sys", mount.kind)
            if mount.kind not in {"bind", "tmpfs"}:
                raise _denied(f"mounts {where}", "a bind or tmpfs mount", mount.kind)
            hidden = [
                s.path for s in self.secrets if s.path and (_is_under(s.path, {where}) or _is_under(where, {s.path}))
            ]
            if hidden:
                raise _denied(f"mounts {where}", f"no mount where the secret {hidden[0]} is delivered", mount.kind)
            if (rule.volume or rule.sha256) and mount.kind != "bind":
                raise _denied(f"mounts {where}", "a bind mount: the rule is for what the host has there", mount.kind)
            read_only = mount.read_only or rule.read_only
            yield ApprovedMount(where, mount.kind, mount.source, read_only, rule.sha256, rule.volume, rule.key)

    def _check_rest(self) -> None:
        """Check 8."""
        if self.wish.devices:
            raise _denied(
                "linux.devices", "none: a device is the host's hand inside", ", ".join(self.wish.devices)[:500]
            )
        if self.wish.terminal and not self.rule.terminal:
            raise _denied("process.terminal", "false", "true")
        name = self.wish.hostname
        if name and not (self.rule.hostname.admits(name) if self.rule.hostname else _HOSTNAME.fullmatch(name)):
            raise _denied("hostname", str(self.rule.hostname or "a host name"), repr(name[:253]))


def _is_under(path: str, tops: Iterable[str]) -> bool:
    """Whether `path` is one of `tops` or below one; /var/run is /run, as in every image of today."""
    return any(f"{_one_run(path)}/".startswith(f"{_one_run(top)}/") for top in tops)


def _one_run(path: str) -> str:
    return path.removeprefix("/var") if f"{path}/".startswith("/var/run/") else path


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _denied(field: str, expected: str, got: str) -> Permanent:
    return Permanent(
        Code.CONFIG_PROCESS_DENIED,
        f"the launch policy does not admit {field}",
        expected=expected[:3000],
        got=got[:3000],
        advice="change the pod, or let the owner add this to the image's rule in the launch policy",
    )
