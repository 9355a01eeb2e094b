"""boot_app: the app enclave is told to boot, and tells when its workload's first instruction is about to run.

Zone: enclave. May import: `workers.enclave`, `orchestrator.{events,launch}`, `schemas`.

The doing is `workers.enclave.boot`'s. The channel stays open afterwards, for commands beside the workload (`execs`).
"""

from __future__ import annotations

from orchestrator.events import AppBooted, Command
from orchestrator.launch import Launch
from schemas import strict_json
from workers.enclave import messages
from workers.enclave.execs import Execs, Running
from workers.enclave.sessions import Sessions
from workers.enclave.work import Works


class BootApp:
    """The transition config-delivered -> app-booted of a container."""

    def __init__(self, sessions: Sessions, works: Works, execs: Execs) -> None:
        self._sessions = sessions
        self._works = works
        self._execs = execs

    async def __call__(self, command: Command, launch: Launch) -> AppBooted:  # noqa: ARG002 - every step is called so
        """Raises what boot init says has failed (BOOT_*), Permanent(CONFIG_LOCAL_ATTESTATION) for what it may not say.

        Raises Temporary(CONFIG_LOCAL_ATTESTATION) when it went away.
        """
        session = await self._sessions.wait(command.container, command.attempt)
        work = self._works.get(command.container)
        try:
            await session.channel.send(messages.pack("boot"))
            told = messages.unpack(await session.channel.receive(), "booted")
            with messages.understood("booted"):
                booted = AppBooted(strict_json.integer(told, "nanoseconds"), strict_json.integer(told, "process"))
        except BaseException:
            session.channel.close()
            raise
        else:
            rule, entries = (work.rule, work.execs) if work else ("", ())
            self._execs.begin(Running(command.container, rule, entries), session)
            return booted
        finally:
            # There is one attempt: whatever came of it, this step will not be done again.
            self._works.drop(command.container)
            self._sessions.forget(command.container, command.attempt)
