"""A cluster's nodes as the operator's decisions see and change them: an API server's objects and Jobs, as values.

Every action is carried out as the API server would (a stale version is refused), and each is held to the rules that
must never be broken, at the moment it is taken.
"""

from __future__ import annotations

from dataclasses import replace

from deploy.operator import actions
from deploy.operator.desired import Desired, Requirement, Selector, Verification
from deploy.operator.names import RUNTIME_LABEL, digest_of, verification_class
from deploy.operator.observed import Guest, Node, Observed, Outcome, RuntimeClass, Work
from deploy.operator.reconcile import reconcile
from deploy.operator.record import IN_UPGRADE, Problem, labels_of
from deploy.operator.report import Report
from deploy.operator.runtime_class import fingerprint

A, B, C = (f"registry.test/payload@sha256:{letter * 64}" for letter in "abc")
EVEN = Selector((Requirement("parity", "In", frozenset({"even"})),))
ROUNDS = 400
BROKEN = Problem("E-RUNTIME-001", "containerd does not start")


class World:
    """Nodes `n0`... with what is on their disks, Jobs, pods, RuntimeClasses, and one EnclaveRuntime."""

    def __init__(self, desired: Desired, count: int) -> None:
        self.desired = desired
        self.finalizer = False
        self.gone = False
        self.now = 1_000_000
        self.versions = 0
        self.nodes: dict[str, Node] = {}
        self.jobs: dict[tuple[str, int], Work] = {}
        self.tasks: dict[tuple[str, int], actions.StartJob] = {}
        self.pods: dict[tuple[str, int], Work] = {}
        self.classes: dict[str, RuntimeClass] = {}
        self.on_disk: dict[str, str] = {}
        self.guests: dict[str, int] = {}
        self.status: dict = {}
        self.broken: set[str] = set()
        self.touched: set[str] = set()
        self.taken: list[actions.Action] = []
        for index in range(count):
            self.happen("join", index)

    def observed(self) -> Observed:
        return Observed(
            now=self.now,
            finalizer=self.finalizer,
            nodes=tuple(self._seen(node) for _, node in sorted(self.nodes.items())),
            jobs=tuple(self.jobs.values()),
            pods=tuple(self.pods.values()),
            runtime_classes=tuple(self.classes.values()),
            status=self.status,
        )

    def selected(self) -> list[Node]:
        return [node for node in self.nodes.values() if self.desired.selector.selects(node.labels)]

    def decide(self) -> bool:
        """One decision, carried out. Whether it did anything."""
        if self.gone:
            return False
        done = reconcile(self.observed(), self.desired)
        for action in done:
            self._carry_out(action)
        self.now += 1
        return bool(done)

    def settle(self) -> None:
        """Decide, let Jobs and pods end as they do, let time pass; until nothing is done any more."""
        idle = 0
        for _ in range(ROUNDS):
            acted = self.decide()
            worked = self._work()
            idle = 0 if acted or worked else idle + 1
            self.now += 0 if acted or worked else 1000
            if idle > 3:
                return
        raise AssertionError(f"no end of it: {self.taken[-12:]}")

    def calm(self) -> None:
        """Everything works from now on, and a person counts the attempt up where something was refused."""
        self.guests.clear()
        self.broken.clear()
        for name in self.nodes:
            self._touch(name, ready=True)
        self.settle()
        for _ in range(2):
            self.desired = replace(
                self.desired, attempt=self.desired.attempt + 1, generation=self.desired.generation + 1
            )
            self.settle()

    def happen(self, kind: str, what: object) -> None:  # noqa: C901, PLR0912 - a table
        """An event from outside."""
        name = f"n{what}"
        desired = self.desired
        match kind:
            case "join" if name not in self.nodes:
                self.versions += 1
                labels = {"parity": "even" if int(str(what)) % 2 == 0 else "odd"}
                self.nodes[name] = Node(name, f"uid-{self.versions}", str(self.versions), labels)
            case "leave":
                self.nodes.pop(name, None)
                self.on_disk.pop(name, None)
                self.guests.pop(name, None)
            case "ready" | "unready" if name in self.nodes:
                self._touch(name, ready=kind == "ready")
            case "guest" if name in self.nodes and self.nodes[name].labels.get(RUNTIME_LABEL) == "true":
                self.guests[name] = 2
            case "guests-end":
                self.guests.pop(name, None)
            case "job-ends" | "job-fails" | "job-dies":
                self._end_jobs(name, kind)
            case "verified" | "refuted":
                self._end_pods(name, kind == "verified")
            case "payload":
                self.desired = replace(desired, payload=str(what), generation=desired.generation + 1)
            case "batch":
                self.desired = replace(desired, batch_size=int(str(what)))
            case "verify":
                asked = Verification(image=A, command=(), seconds=60) if what else None
                self.desired = replace(desired, verification=asked)
            case "drain":
                self.desired = replace(desired, drain=bool(what))
            case "select":
                self.desired = replace(desired, selector=EVEN if what else Selector())
            case "time":
                self.now += int(str(what))
            case "delete":
                self.desired = replace(desired, deleting=True)

    def _seen(self, node: Node) -> Node:
        guests = tuple(Guest("default", f"{node.name}-{i}") for i in range(self.guests.get(node.name, 0)))
        return replace(node, guests=guests if node.record else None)

    def _touch(self, name: str, **changes: object) -> None:
        self.versions += 1
        self.nodes[name] = replace(self.nodes[name], version=str(self.versions), **changes)

    def _work(self) -> bool:
        """Every Job and every verification pod that runs, ends."""
        before = (dict(self.jobs), dict(self.pods))
        for name in list(self.nodes):
            self._end_jobs(name, "job-ends")
            self._end_pods(name, verified=self.on_disk.get(name) not in self.broken)
        return before != (self.jobs, self.pods)

    def _end_jobs(self, name: str, how: str) -> None:
        for key, job in self.jobs.items():
            if key[0] != name or job.outcome is not Outcome.RUNNING or not self.nodes.get(name):
                continue
            task = self.tasks[key]
            if how == "job-dies":
                self.jobs[key] = replace(job, outcome=Outcome.FAILED)
                continue
            fails = how == "job-fails" or (task.payload in self.broken and not self.desired.verification)
            if fails and task.operation is not actions.Operation.UNINSTALL:
                report = Report("failed", digest_of(self.on_disk.get(name, "")), problem=BROKEN)
                self.jobs[key] = replace(job, outcome=Outcome.FAILED, report=report)
                continue
            if task.operation is actions.Operation.UNINSTALL:
                self.on_disk.pop(name, None)
                report = Report("uninstalled", "")
            else:
                self.on_disk[name] = task.payload
                report = Report("installed", digest_of(task.payload), "0" * 64)
            self.jobs[key] = replace(job, outcome=Outcome.SUCCEEDED, report=report)

    def _end_pods(self, name: str, verified: bool) -> None:
        for key, pod in self.pods.items():
            if key[0] == name and pod.outcome is Outcome.RUNNING:
                self.pods[key] = replace(pod, outcome=Outcome.SUCCEEDED if verified else Outcome.FAILED)

    def _carry_out(self, action: actions.Action) -> None:  # noqa: C901 - a table
        self.taken.append(action)
        assert self.finalizer or isinstance(action, actions.AddFinalizer), f"{action} before the finalizer"
        match action:
            case actions.AddFinalizer():
                self.finalizer = True
            case actions.RemoveFinalizer():
                assert not self.classes
                assert all(node.record is None for node in self.nodes.values())
                self.finalizer, self.gone = False, True
            case actions.PatchNode():
                self._patch(action)
            case actions.StartJob():
                self._start(action)
            case actions.DeleteJob():
                self.jobs = {key: job for key, job in self.jobs.items() if job.name != action.name}
            case actions.StartVerification():
                assert verification_class(self.desired.runtime_class) in self.classes
                key = (action.node, action.serial)
                self.pods.setdefault(key, Work(f"verify-{key}", *key, Outcome.RUNNING))
            case actions.DeletePod():
                self.pods = {key: pod for key, pod in self.pods.items() if pod.name != action.name}
            case actions.Evict():
                self.guests.pop(action.name.partition("-")[0], None)
            case actions.PutRuntimeClass():
                if action.name == self.desired.runtime_class and action.name not in self.classes:
                    assert any(node.labels.get(RUNTIME_LABEL) == "true" for node in self.nodes.values())
                mark = fingerprint(action.name, self.desired)
                self.classes[action.name] = RuntimeClass(action.name, self.desired.name, mark)
            case actions.DeleteRuntimeClass():
                del self.classes[action.name]
            case actions.SetStatus():
                self.status = dict(action.status)

    def _patch(self, action: actions.PatchNode) -> None:
        node = self.nodes[action.node]
        if node.version != action.version:
            return
        if action.record is None:
            assert node.labels.get(RUNTIME_LABEL) != "true" or not self.on_disk.get(node.name), "demoted before removal"
            assert not self.on_disk.get(node.name), "let go with something of ours on it"
        if action.serves:
            assert self.on_disk.get(node.name) == (action.record and action.record.payload), "serves what is not there"
        wanted = labels_of(action.record, serves=action.serves)
        labels = {k: v for k, v in ({**node.labels, **wanted}).items() if v is not None}
        began = (
            action.record and action.record.step in IN_UPGRADE and not (node.record and node.record.step in IN_UPGRADE)
        )
        self._touch(node.name, labels=labels, record=action.record)
        if began:
            upgrading = [n for n in self.nodes.values() if n.record and n.record.step in IN_UPGRADE]
            trusted = any(
                n.record and n.record.payload == self.desired.payload and n.labels.get(RUNTIME_LABEL) == "true"
                for n in self.nodes.values()
            )
            others = len(upgrading) - 1
            assert others < (self.desired.batch_size if trusted else 1), "more nodes in upgrade than allowed"

    def _start(self, action: actions.StartJob) -> None:
        node = self.nodes[action.node]
        key = (action.node, action.serial)
        assert node.record
        assert node.labels[RUNTIME_LABEL] == "false", "a Job on a node that serves"
        running = [job for job in self.jobs.values() if job.node == node.name and job.outcome is Outcome.RUNNING]
        assert not running, "two Jobs on a node"
        if action.operation is actions.Operation.UNINSTALL:
            assert not self.guests.get(node.name) or not self.on_disk.get(node.name), "uninstalled under a pod"
        assert key not in self.jobs
        self.touched.add(action.node)
        self.tasks[key] = action
        self.jobs[key] = Work(f"job-{key}", *key, Outcome.RUNNING)
