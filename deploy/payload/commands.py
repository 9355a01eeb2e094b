"""`enclave-cc payload`: build, inspect.

Zone: owner. May import: `click`, `deploy.payload`, `workers.host.libos`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from deploy.payload.bundle import build_bundle
from deploy.payload.roles import ROLES
from workers.host.libos.sim.measurement import Measurement, measure_image


@click.group()
def payload() -> None:
    """The agent's and boot init's bundles: the same sources give the same bytes and the same measurement."""


@payload.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def build(folder: Path) -> None:
    """Write agent.erofs and boot.erofs to FOLDER and print what they measure to."""
    for role in ROLES.values():
        built = build_bundle(role, folder / f"{role.name}.erofs")
        click.echo(f"{built.image}  {built.image.stat().st_size >> 20} MiB  mrenclave {built.mrenclave}")


@payload.command()
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def inspect(image: Path, *, as_json: bool) -> None:
    """What IMAGE measures to, and the one process that an enclave made from it may be."""
    measured = measure_image(image)
    if as_json:
        click.echo(json.dumps(_document(measured), indent=1))
        return
    click.echo(f"image      sha256:{measured.image_sha256}, {image.stat().st_size} bytes")
    click.echo(f"mrenclave  {measured.mrenclave.hex()}")
    click.echo(f"process    {' '.join(measured.entry.argv)}")
    for name, value in measured.entry.env:
        click.echo(f"           {name}={value}")


def _document(measured: Measurement) -> dict[str, object]:
    return {
        "image_sha256": measured.image_sha256,
        "mrenclave": measured.mrenclave.hex(),
        "entry": measured.entry.document(),
    }
