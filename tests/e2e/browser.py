"""A real Chromium without a screen, and what a test asks of a page that it shows.

Debian's chromium and chromedriver (deploy/setup.sh), through selenium. axe-core judges accessibility; it comes as the
one script of a Python package, pinned with the others.
"""

from __future__ import annotations

import base64
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ARTIFACTS = Path(__file__).parent / "artifacts"
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
TALLEST = 6000
"""Pixels of a page that a picture shows."""
PATIENCE = 60
"""Seconds until what does not come is missed."""

_LISTEN = (
    "addEventListener('securitypolicyviolation', e => (window.policyViolations ??= []).push(e.violatedDirective), true)"
)
_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
  .then(r => done(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 200)).slice(0, 3)])));
"""
_Found = TypeVar("_Found")


@dataclass
class Chromium:
    """One window. `downloads` is where files go."""

    driver: webdriver.Chrome
    downloads: Path

    def open(self, address: str) -> None:
        self.driver.get(address)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def follow(self, selector: str) -> None:
        """Click what leads to another page, and wait for it: a click comes back while the browser still asks for it."""
        self.run("window.left = true")
        self.find(selector).click()
        self.until(lambda: self.run("return !window.left && document.readyState === 'complete'"))

    def _loaded(self) -> None:
        self.until(lambda: self.run("return document.readyState === 'complete'"))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        return self.find(selector).text

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def press(self, *keys: str) -> None:
        """Keys, at whatever has the focus, once the page's scripts listen."""
        self._loaded()
        for key in keys:
            self.driver.switch_to.active_element.send_keys(getattr(Keys, key, key))

    def until(self, look: Callable[[], _Found]) -> _Found:
        """What `look` finds once it finds something; parts that are being exchanged are looked for again."""
        wait = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05, ignored_exceptions=[Exception])
        return wait.until(lambda _: look())

    def sign_in(self, address: str, token: str) -> None:
        """At the door, as a person does."""
        self.open(f"{address}/login")
        self.find("#token").send_keys(token)
        self.follow(".door button")
        self.until(lambda: self.find(".main-nav"))

    def complaints(self) -> list[str]:
        """What the browser says is wrong: errors of the console, violations of the page's policy."""
        said = [line["message"] for line in self.driver.get_log("browser") if line["level"] in {"SEVERE", "WARNING"}]
        return said + [f"policy: {directive}" for directive in self.run("return window.policyViolations ?? []")]

    def barriers(self) -> list[Any]:
        """What axe-core finds that is serious or worse."""
        package = importlib.util.find_spec("axe_playwright_python")
        assert package is not None
        assert package.origin is not None
        self.run((Path(package.origin).parent / "axe.min.js").read_text())
        found = self.driver.execute_async_script(_AXE)
        return [violation for violation in found if violation[0] in {"serious", "critical"}]

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.run("return document.documentElement.scrollWidth - window.innerWidth"))

    def picture(self, name: str) -> None:
        """The whole page, kept in tests/e2e/artifacts."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], TALLEST), "scale": 1}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        ARTIFACTS.mkdir(exist_ok=True)
        (ARTIFACTS / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def downloaded(self, suffix: str) -> Path:
        """The file that a click just brought, once it is whole."""
        return self.until(lambda: next(iter(self.downloads.glob(f"*{suffix}")), None))  # type: ignore[return-value]


@contextmanager
def chromium(width: int = 1280, height: int = 900, *, dark: bool = False, scripts: bool = True) -> Iterator[Chromium]:
    """A window of that size, with an empty profile."""
    with tempfile.TemporaryDirectory() as profile, tempfile.TemporaryDirectory() as downloads:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for switch in (*SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _LISTEN})
            driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": downloads})
            driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
            driver.set_page_load_timeout(60)
            driver.set_script_timeout(60)
            yield Chromium(driver, Path(downloads))
        finally:
            driver.quit()
