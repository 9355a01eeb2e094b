"""Kill everything while pods run: `just soak-kills [--pods 20] [--megabytes 100] [--ending 3]`.

So many confidential pods number their log lines, and one command streams so many megabytes, while each of containerd,
a pod's shim (twice: once with an exit that it has not told), zygote, host worker, bus and orchestrator is killed and
comes back; in each round some pods end with statuses of their own, and are started again. Then the same under runc, as
far as it has such processes: what it loses too is nature. Fails when a confidential pod, line, exit, byte or fact is
lost. Needs root, and some 80 MB of memory a pod.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Iterable

from deploy.local.cri import Kubelet
from deploy.local.stack import Stack
from orchestrator.faults import Fault
from tests.e2e import talkers
from tests.e2e.cluster import Cluster
from tests.e2e.kill_rounds import CONFIDENTIAL, NODE_ALONE, Outcome, Rounds, Victim
from tests.e2e.talkers import Images
from tests.tables import lines

RUNC = "runc"


def main() -> int:
    """0 when nothing was lost and nothing is left."""
    parser = argparse.ArgumentParser(prog="just soak-kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=20, help="that run at once (default 20)")
    parser.add_argument("--megabytes", type=int, default=100, help="that a command streams (default 100)")
    parser.add_argument("--ending", type=int, default=3, help="pods that end in each round (default 3)")
    wanted = parser.parse_args()
    # Told to end, it still takes its stack away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stack = Stack.create(f"soak-{secrets.token_hex(3)}")
    try:
        stack.up()
        cluster = Cluster(stack)
        made = talkers.publish(cluster)
        wrong = soak(cluster, made, CONFIDENTIAL, Victim, wanted)
        soak(cluster, made, RUNC, NODE_ALONE, wanted)
    except Fault as fault:
        wrong = [fault.diagnostics()]
    finally:
        left = stack.down()
    print(*wrong, *left, sep="\n", file=sys.stderr)
    return 1 if wrong or left else 0


def soak(
    cluster: Cluster, made: Images, handler: str, killed: Iterable[Victim], wanted: argparse.Namespace
) -> list[str]:
    """Every round under one handler, as a table; what was lost."""
    kubelet = Kubelet(cluster.layout.containerd, handler=handler, log_directory=cluster.layout.logs / "pods")
    began, outcomes = time.monotonic(), dict[str, Outcome]()
    try:
        rounds = Rounds(cluster, kubelet, made, handler=handler, pieces=wanted.megabytes)
        rounds.start(wanted.pods)
        print(f"{wanted.pods} pods under {handler} in {time.monotonic() - began:.0f} s", flush=True)
        for victim in killed:
            outcomes[str(victim)] = rounds.strike(victim, wanted.ending)
            print(f"{victim}: {outcomes[victim].cells()}", flush=True)
        outcomes["then all end"] = rounds.finish()
        kubelet.remove_everything()
    finally:
        kubelet.close()
    rows = {victim: outcome.cells() for victim, outcome in outcomes.items()}
    print(f"\nkill -9, {handler}: kept of written ({time.monotonic() - began:.0f} s)", *lines(rows), "", sep="\n")
    return [f"{victim}: {loss}" for victim, outcome in outcomes.items() for loss in outcome.lost]


if __name__ == "__main__":
    sys.exit(main())
