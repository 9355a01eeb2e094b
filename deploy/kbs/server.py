"""Putting the broker together and serving it over TLS. It starts whole or not at all."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from deploy.kbs import anchors
from deploy.kbs.admin import AdminGate
from deploy.kbs.api import Api
from deploy.kbs.handshake import Handshake
from deploy.kbs.ownership import Ownership
from deploy.kbs.policies import Policies, PolicyBroken
from deploy.kbs.references import ReferenceValues
from deploy.kbs.release import Release
from deploy.kbs.resources import Resources
from deploy.kbs.sessions import Sessions
from deploy.kbs.state import POLICIES, REFERENCE_VALUES, RESOURCES
from deploy.kbs.tokens import TokenSigner
from deploy.kbs.verifier import SgxVerifier
from deploy.kbs.web import web_app
from orchestrator.faults import Code, Permanent
from schemas.strict_json import Malformed

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from deploy.kbs.config import KbsConfig

# Trustee's limit on a request's head: a token goes there.
_MAX_HEAD_BYTES: Final = 128 * 1024
_MAX_CONNECTIONS: Final = 512
# A connection kept alive by a client that does not hang up must not delay a restart.
_GOODBYE_SECONDS: Final = 1
_log = structlog.get_logger("kbs")


def broker(config: KbsConfig) -> Api:
    """The broker that `config` describes; `Permanent` when a key, a policy, a root or the state is missing or wrong."""
    trusted = _anchors(config)
    try:
        references = ReferenceValues(config.state / REFERENCE_VALUES)
        policies = Policies(config.state / POLICIES, references.query)
        signer = TokenSigner(
            _read(config.token_key),
            _read(config.token_certificate),
            _read(config.token_ca),
            config.token_minutes * 60,
        )
        gate = AdminGate(_read(config.admin_public_key), config.admin_issuer)
    except PolicyBroken as broken:
        raise Permanent(
            Code.INPUT,
            "a policy is missing or broken; without it nothing may be decided",
            expected=f"{POLICIES}/*.rego in {config.state}",
            got=str(broken),
            advice="enclave-cc kbs init makes the default policies",
        ) from broken
    except Malformed as malformed:
        raise Permanent(Code.INPUT, "the reference values are damaged", got=str(malformed)) from malformed
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        # The library's text may quote the file: it stays out.
        raise Permanent(
            Code.INPUT, "a key or certificate cannot be read", expected="unencrypted PEM", got=type(error).__name__
        ) from None
    resources = Resources(config.state / RESOURCES)
    sessions = Sessions(config.session_minutes * 60)
    return Api(
        Handshake(sessions, SgxVerifier(trusted), policies, signer),
        Release(sessions, signer, policies, resources),
        Ownership(resources, policies, references),
        gate,
    )


class KbsServer(uvicorn.Server):
    """The broker's process. `run()` serves until SIGTERM or SIGINT."""

    def __init__(self, config: KbsConfig) -> None:
        api, tls = broker(config), _tls(config)
        settings = uvicorn.Config(
            web_app(api),
            host=config.host,
            port=config.port,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GOODBYE_SECONDS,
            ssl_context_factory=lambda _config, _default: tls,
        )
        super().__init__(settings)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        _log.info("serving", url=self.url)

    @property
    def url(self) -> str:
        """Where it serves, once it does; the port is the real one."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _anchors(config: KbsConfig) -> tuple[anchors.Anchor, ...]:
    intel = (anchors.intel(config.intel_collateral),) if config.intel_collateral else ()
    simulated = tuple(anchors.simulated(root.name, root.root, root.collateral) for root in config.simulated_roots)
    if not intel + simulated:
        raise Permanent(
            Code.INPUT,
            "no root is trusted, so no evidence could be verified",
            expected="sgx.intel_collateral or sgx.simulated_roots",
        )
    return intel + simulated


def _tls(config: KbsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Permanent(
            Code.INPUT,
            "the TLS certificate and key cannot be used",
            expected=f"{config.tls_certificate}, {config.tls_key}",
            got=type(error).__name__,
        ) from None
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Permanent(Code.NOT_FOUND, "a file that the broker needs cannot be read", expected=str(path)) from error
