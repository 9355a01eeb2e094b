"""`enclave-cc console`: the console in the foreground.

Zone: host. May import: `click`, `orchestrator.{bus,cli,faults,log}`, `orchestrator.console`.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import click

from orchestrator import log as logging
from orchestrator.bus import Histories, connect
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.bus.settings import BusSettings
from orchestrator.cli.audit.places import POLICY, open_store, reads_the_log
from orchestrator.cli.subcommand import Subcommand, settings_path
from orchestrator.console.ledger import Ledger
from orchestrator.console.oidc import Provider
from orchestrator.console.orders import Orders
from orchestrator.console.serve import Console, Settings
from orchestrator.faults import Code, Permanent

ADDRESS: Final = "127.0.0.1:8640"


@click.command(cls=Subcommand)
@reads_the_log
@click.option("--listen", default=ADDRESS, show_default=True, metavar="HOST:PORT", help="Port 0 takes any.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The token to sign in with, made if there is none. Default: console/token beside the bus's settings.",
)
@click.option("--tls-certificate", default="", metavar="FILE", help="PEM; needed for any address but loopback.")
@click.option("--tls-key", default="", metavar="FILE", help="PEM.")
@click.option("--url", default="", help="How browsers call this console, where that is another address.")
@click.option("--oidc-issuer", default="", metavar="URL", help="Sign in through this OpenID provider too.")
@click.option("--oidc-client", default="", metavar="ID", help="What the provider calls this console.")
@click.option("--oidc-secret-file", type=click.Path(path_type=Path, exists=True), help="For a confidential client.")
@click.option("--oidc-ca", default="", metavar="FILE", help="The provider's authority, if the system does not know it.")
@click.option(
    "--oidc-reader", "oidc_readers", multiple=True, metavar="NAME", help="A group or e-mail address that may read; *."
)
@click.option(
    "--oidc-operator", "oidc_operators", multiple=True, metavar="NAME", help="One that may give orders; with --orders."
)
@click.option(
    "--orders",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An operator's settings: who enters as operator may then resume and stop launches.",
)
def console(
    log: str | None,
    policy: Path | None,
    config: Path | None,
    stack: str | None,
    listen: str,
    token_file: Path | None,
    tls_certificate: str,
    tls_key: str,
    url: str,
    oidc_issuer: str,
    oidc_client: str,
    oidc_secret_file: Path | None,
    oidc_ca: str,
    oidc_readers: tuple[str, ...],
    oidc_operators: tuple[str, ...],
    orders: Path | None,
) -> None:
    """Show every launch, live, in a browser; ends with Ctrl-C. Reads only, unless it is given --orders.

    Sign in with the token in the token file; to give orders, with the one in the file beside it.
    docs/operations/console.md says what is seen, what can be ordered, and by whom.
    """
    where = settings_path(config, stack)
    token_file = token_file or where.parent / "console" / "token"
    if oidc_operators and orders is None:
        raise Permanent(
            Code.INPUT,
            "a console without an operator's settings gives no orders",
            expected="--orders beside --oidc-operator",
            got="none",
        )
    provider = None
    if oidc_issuer:
        if not (oidc_client and (oidc_readers or oidc_operators) and url):
            raise Permanent(
                Code.INPUT,
                "an OpenID provider alone does not say who may enter",
                expected="--oidc-client, --url, and --oidc-reader or --oidc-operator beside --oidc-issuer",
                got="one of them missing",
            )
        secret = oidc_secret_file.read_text().strip() if oidc_secret_file else ""
        provider = Provider(
            oidc_issuer,
            oidc_client,
            f"{url}/login/oidc/callback",
            frozenset(oidc_readers),
            secret,
            oidc_ca,
            frozenset(oidc_operators),
        )
    ledger = Ledger(open_store(log, config, stack), policy or where.parent / POLICY)
    settings = Settings(listen, token_file, ledger, url.rstrip("/"), tls_certificate, tls_key, provider)
    logging.configure("console")
    asyncio.run(_run(BusSettings.load(where), settings, BusSettings.load(orders) if orders else None))


async def _run(reader: BusSettings, settings: Settings, operator: BusSettings | None) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await connect(reader.enter(), "console"))
        orders = None
        if operator is not None:
            key = OperatorKey.load(Path(operator.credentials))
            ordering = await stack.enter_async_context(await connect(operator.enter(), "console/orders"))
            orders = Orders(Histories(ordering), key)
        serving = Console(bus, settings, orders)
        click.echo(f"console {serving.url}\ntoken   {settings.token_file}")
        if orders is not None:
            click.echo(f"orders  {settings.operator_token_file}")
        await serving.run()
