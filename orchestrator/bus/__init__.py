"""The bus: histories in a stream, commands in a work queue, over NATS JetStream.

Zone: host and enclave (both connect; who may touch what is the server's permission list). This package is the only
one that imports `nats`. May import: `orchestrator.{events,faults,fold,launch,lifecycle}`, `nats`, the standard library.

- `subjects`: the names of streams, subjects and consumers; pure.
- `connection`: credentials, TLS, connect and reconnect.
- `streams`: the streams' configuration, created once and never altered at run time.
- `histories`: append on condition, read, follow.
- `tail`: all histories as one stream, for those who only look.
- `queue`: commands to workers, with redelivery.
- `settings`: the file by which a process or a person finds the bus.
- `transcript`: the whole stream as it is stored, for the audit log.
- `lease`: one holder at a time, for as long as it is connected.
"""

from __future__ import annotations

from orchestrator.bus.connection import Bus, Credentials, connect
from orchestrator.bus.histories import Histories
from orchestrator.bus.queue import Delivery, WorkQueue
from orchestrator.bus.streams import ensure_streams

__all__ = ["Bus", "Credentials", "Delivery", "Histories", "WorkQueue", "connect", "ensure_streams"]
