"""A shim without the node's worker: what ends something is done, what would begin something is unavailable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orchestrator.faults import Code, Temporary
from tests.unit.host.pods import Bundles
from workers.host.conmon import Streams
from workers.host.node_file import ENVIRONMENT, SHIMS
from workers.host.runc import Held, Role, Runc
from workers.host.shim.line_pod import LinePod
from workers.host.shim.loop import Loop
from workers.host.shim.ttrpc.status import Refusal, StatusCode

T = TypeVar("T")
_NODE = """
node = "node-a"
run_dir = "{folder}"
state_dir = "{folder}"
runc = "/usr/sbin/runc"
[bus]
url = "tls://127.0.0.1:1"
ca = "/ca"
[credentials]
[enclave]
agent_bundle = "/a"
boot_bundle = "/b"
libos = "sim"
socket = "/s"
control = "/c"
init_data = "/i"
"""


@pytest.fixture
def alone(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[LinePod], Coroutine[Any, Any, T]]], T]:
    """What a shim of pod `p` whose worker is away comes to."""
    file = run_dir / "node.toml"
    file.write_text(_NODE.format(folder=run_dir))
    monkeypatch.setenv(ENVIRONMENT, str(file))

    def asked(call: Callable[[LinePod], Coroutine[Any, Any, T]]) -> T:
        loop = Loop()
        pod = LinePod(loop, "p", lambda: str(run_dir / SHIMS), patience=0.1)

        async def main() -> T:
            loop.create_task(pod.run())
            return await call(pod)

        return loop.run(main())

    return asked


def test_what_runs_is_signalled_and_its_exit_is_what_conmon_wrote(runc: Runc, bundles: Bundles, alone: Any) -> None:
    id_, bundle = bundles.bundle("a")

    async def begin() -> None:
        await runc.create(Held(id_, "p", id_, Role.APP, 1), bundle, Streams())
        await runc.start(id_)

    asyncio.run(begin())

    async def end(pod: LinePod) -> int:
        await pod.signal(id_, 9, everything=True)
        return (await pod.exit_of(id_)).status

    assert alone(end) == 137
    with pytest.raises(Refusal) as gone:
        alone(lambda pod: pod.signal(id_, 9, everything=False))
    assert gone.value.status is StatusCode.NOT_FOUND


def test_a_removal_is_written_down(run_dir: Path, alone: Any) -> None:
    alone(lambda pod: pod.remove("c", "removed by containerd"))
    (note,) = (run_dir / "removals").iterdir()
    assert json.loads(note.read_text()) == {"pod": "p", "container": "c", "reason": "removed by containerd"}


def test_nothing_is_begun_and_what_is_not_ours_is_not_signalled(alone: Any) -> None:
    for call in (lambda pod: pod.attested(), lambda pod: pod.signal("of-another", 9, everything=False)):
        with pytest.raises(Temporary) as away:
            alone(call)
        assert away.value.code is Code.BUS_AWAY
