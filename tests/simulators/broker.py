"""An owner with a running broker, and an enclave whose quotes it can verify.

The broker is the real one, over TLS, in a thread; the quotes are signed by a simulated hierarchy and checked by
dcap-qvl. Only the hardware is stood in for.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from deploy.kbs import owner
from deploy.kbs.admin_client import AdminClient
from deploy.kbs.config import KbsConfig
from deploy.kbs.server import KbsServer
from schemas.sgx import Attributes, Flags, ReportBody
from workers.enclave.kbs import KbsClient
from workers.host.libos.sim.pki import CPU_SVN
from workers.host.libos.sim.quote import sign_quote

if TYPE_CHECKING:
    from pathlib import Path

    from workers.host.libos.sim.pki import SimulatedPki

MEASUREMENT = bytes(range(32))
_PATIENCE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Enclave:
    """An enclave of a chosen identity, able to quote: the hardware's part of attestation."""

    pki: SimulatedPki
    mrenclave: bytes = MEASUREMENT
    config_id: bytes = bytes(64)
    debug: bool = False

    def quote(self, report_data: bytes) -> bytes:
        """A quote over exactly 64 bytes."""
        flags = Flags.INIT | Flags.MODE64BIT | (Flags.DEBUG if self.debug else Flags(0))
        body = ReportBody(
            mrenclave=self.mrenclave,
            mrsigner=bytes(32),
            attributes=Attributes(flags, 7),
            report_data=report_data,
            config_id=self.config_id,
            cpu_svn=CPU_SVN,
        )
        return sign_quote(self.pki, body.encode())


class Broker:
    """An owner's directory and the broker that serves it. Use as a context manager; may be started again."""

    def __init__(self, home: Path, pki: SimulatedPki, *, token_minutes: int = 5, session_minutes: int = 5) -> None:
        self.home = home
        pki_files = home.with_name(f"{home.name}.pki")
        pki_files.mkdir()
        (pki_files / "root.der").write_bytes(pki.root_der())
        (pki_files / "collateral.json").write_text(pki.collateral_json())
        root = ("test", pki_files / "root.der", pki_files / "collateral.json")
        owner.create(home, listen="127.0.0.1:0", simulated_roots=[root])
        self.ca_pem = (home / owner.CA_CERTIFICATE).read_text()
        self.config = replace(
            KbsConfig.load(home / owner.CONFIG), token_minutes=token_minutes, session_minutes=session_minutes
        )
        self._server: KbsServer | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; where it was served before, if it was."""
        self._server = server = KbsServer(self.config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + _PATIENCE_SECONDS
        while not server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise TimeoutError("the broker does not start")
            time.sleep(0.005)
        self.url = server.url
        self.config = replace(self.config, port=int(self.url.rpartition(":")[2]))

    def stop(self) -> None:
        """Stop serving; the state stays."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_PATIENCE_SECONDS)
            self._server = None

    def admin(self) -> AdminClient:
        """The owner's own client."""
        return AdminClient(self.url, self.ca_pem, (self.home / owner.ADMIN_KEY).read_bytes())

    def list_enclave(self, *mrenclaves: bytes) -> None:
        """Let the policy affirm these enclaves, simulated as they are."""
        admin = self.admin()
        admin.set_reference_value("sgx_mr_enclave", [mrenclave.hex() for mrenclave in mrenclaves])
        admin.set_reference_value("allow_simulated", True)
        admin.close()

    def client(self, tee: Enclave, *, init_data: str | None = None, url: str | None = None) -> KbsClient:
        """What the agent would use."""
        return KbsClient(url or self.url, self.ca_pem, tee, None, init_data)
