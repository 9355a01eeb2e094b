"""Which commands may run beside a workload: one test a way past the owner's list."""

from __future__ import annotations

import pytest

from orchestrator.faults import Code, Permanent
from tests.unit.enclave.launch_policy.conftest import REPOSITORY, policy
from workers.enclave.launch_policy.document import LaunchPolicy
from workers.enclave.launch_policy.execs import AdmittedExec, judge_exec

HEALTH = {"name": "health", "args": ["/app", "check"], "probe": True}
DUMP = {"args": ["/bin/dump", {"pattern": "[a-z]+"}, "--all"]}
SHELL = {"name": "shell", "args": ["/bin/sh"], "terminal": True}
TAIL = {"name": "tail", "args": ["/bin/tail", {"repeat": {"pattern": "-[0-9]+"}}]}


def listed(*entries: dict[str, object], **rule: object) -> LaunchPolicy:
    return policy({"name": "web", "image": REPOSITORY, "exec": list(entries), **rule})


def judged(*args: str, terminal: bool = False, entries: tuple[dict[str, object], ...] = ()) -> AdmittedExec:
    entries = entries or (HEALTH, DUMP, SHELL, TAIL)
    return judge_exec("web", listed(*entries).execs_of("web"), args, terminal=terminal)


def denied(*args: str, **how: object) -> Permanent:
    with pytest.raises(Permanent) as refused:
        judged(*args, **how)  # type: ignore[arg-type]  # as given by the test
    assert refused.value.code is Code.EXEC_DENIED
    return refused.value


def test_a_listed_command_is_admitted_by_its_entry() -> None:
    assert judged("/app", "check") == AdmittedExec("web/health", ("/app", "check"), ("/app", "check"), False, True)


def test_only_words_that_the_policy_holds_itself_are_told() -> None:
    assert judged("/bin/dump", "hunter", "--all").told == ("/bin/dump", "*", "--all")
    assert judged("/bin/tail", "-1", "-2").told == ("/bin/tail", "*", "*")


def test_an_entry_without_a_name_is_called_by_its_place() -> None:
    assert judged("/bin/dump", "x", "--all").rule == "web/exec-1"


def test_without_entries_everything_is_denied() -> None:
    with pytest.raises(Permanent) as refused:
        judge_exec("web", policy({"name": "web", "image": REPOSITORY}).execs_of("web"), ("/app",), terminal=False)
    assert refused.value.code is Code.EXEC_DENIED
    assert "admits no command beside the workload" in str(refused.value)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("/app",),
        ("/app", "check", "x"),
        ("/APP", "check"),
        ("/app", "check "),
        ("check", "/app"),
        ("/bin/dump", "a;b", "--all"),
        ("/bin/dump", "", "--all"),
        ("/bin/tail", "-1", "/etc/shadow"),
        ("/bin/sh", "-c"),
    ],
)
def test_another_command_is_denied_and_none_of_its_words_is_told(args: tuple[str, ...]) -> None:
    fault = denied(*args)
    assert fault.diagnosis.got == f"another one, of {len(args)} words"
    assert "health: ['/app', 'check']" in fault.diagnosis.expected


def test_a_terminal_is_granted_by_the_entry_alone() -> None:
    assert judged("/bin/sh", terminal=True).terminal
    assert not judged("/bin/sh").terminal, "it may be granted, it need not be asked for"
    assert "grants this command no terminal" in str(denied("/app", "check", terminal=True))


def test_of_entries_that_fit_the_first_that_grants_everything_counts() -> None:
    entries = ({"name": "plain", "args": ["/bin/sh"]}, {"name": "tty", "args": ["/bin/sh"], "terminal": True})
    assert judged("/bin/sh", entries=entries).rule == "web/plain"
    assert judged("/bin/sh", entries=entries, terminal=True).rule == "web/tty"


def test_the_commands_of_another_rule_do_not_count() -> None:
    other = {"name": "other", "image": REPOSITORY, "exec": [SHELL]}
    both = policy({"name": "web", "image": REPOSITORY, "exec": [HEALTH]}, other)
    assert [entry.name for entry in both.execs_of("web")] == ["health"]
    assert both.execs_of("no such rule") == ()


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"name": "no args"},
        {"args": []},
        {"args": {"from_image": True}},
        {"args": ["/bin/sh"], "terminal": "yes"},
        {"args": ["/bin/sh"], "user": "root"},
        {"args": ["/bin/sh"], "name": "a/b"},
        {"args": ["/bin/sh", {"pattern": "("}]},
    ],
)
def test_a_mistake_in_an_entry_refuses_the_document(entry: dict[str, object]) -> None:
    with pytest.raises(Permanent) as refused:
        listed(entry)
    assert refused.value.code is Code.CONFIG_POLICY


def test_two_rules_of_one_name_could_lend_each_other_their_commands_and_are_refused() -> None:
    with pytest.raises(Permanent, match="rules") as refused:
        policy({"name": "web", "image": REPOSITORY, "exec": [SHELL]}, {"name": "web", "image": REPOSITORY})
    assert refused.value.code is Code.CONFIG_POLICY
    assert policy({"name": "web", "image": REPOSITORY}, {"name": "web", "image": REPOSITORY}).rules
