"""The chart, rendered for every combination of what it can be."""

from __future__ import annotations

import itertools

import pytest

from tests.helm import Rendered, render

DIGEST = f"sha256:{'a' * 64}"
IMAGES = ("--set", f"image.digest={DIGEST},bus.image.digest={DIGEST}")
TRUSTEE = (*IMAGES, "--set", "keyBroker.trustee.url=https://trustee.example")
SIMULATED = (
    "keyBroker.mode=trial,keyBroker.trial.simulatedRoots[0].name=a,keyBroker.trial.simulatedRoots[0].configMap=a"
)
HARDWARE = "keyBroker.mode=trial,keyBroker.trial.enclaves=hardware,keyBroker.trial.collateralConfigMap=intel"
BROKERS = {"trustee": TRUSTEE, "sim": (*IMAGES, "--set", SIMULATED), "hardware": (*IMAGES, "--set", HARDWARE)}
NETWORKS = ("apiServer", "browsers", "outside")
OPEN = tuple(word for name in NETWORKS for word in ("--set", f"networkPolicies.{name}.cidrs={{192.0.2.0/24}}"))
OBJECT_STORE = ("--set", "audit.log=s3://bucket/log", "--set", "audit.serviceAccountAnnotations.role=writer")
OPENID = (
    "--set",
    "console.url=https://console.example,console.oidc.issuer=https://sso.example,console.oidc.client=c,console.oidc.readers={ops}",
)
SECRETS = ("--set", "console.oidc.secretName=oidc,console.oidc.caSecretName=oidc-ca")
EXTRAS = {
    "console": (),
    "no-console": ("--set", "console.enabled=false"),
    "all": (*OPEN, *OBJECT_STORE, *OPENID, *SECRETS),
}
OF = {1: ("console", "no-console"), 3: ("all", "no-console")}
MATRIX = {
    f"{servers}-{broker}-{extra}": (*BROKERS[broker], "--set", f"bus.servers={servers}", *EXTRAS[extra])
    for servers, extras in OF.items()
    for broker, extra in itertools.product(BROKERS, extras)
}


@pytest.fixture(scope="module", params=sorted(MATRIX))
def chart(request: pytest.FixtureRequest) -> Rendered:
    return render(*MATRIX[request.param])
