"""Makes the pictures of the console in this folder from the demo shop: `make screenshots`, after `make demo`.

Needs chromium and chromedriver. It starts a service and a console of its own, and stops them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from recsys.config.settings import load_settings

FOLDER = Path(__file__).parent
CONF = Path("conf/demo.yaml")
USER = "u-01879"
PICTURES = {
    "console_window.png": f"/window?user={USER}&beside=collaborative",
    "console_tonight.png": "/",
}
WIDTH, HEIGHT = 1240, 800
PATIENCE_S = 60


def main() -> None:
    """Write the pictures."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        sys.exit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"window-size={WIDTH},{HEIGHT + 140}"):
        options.add_argument(f"--{flag}")
    with ExitStack() as stack:
        url = stack.enter_context(console())
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        stack.callback(browser.quit)
        sizes = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
        for name, path in PICTURES.items():
            browser.get(url + path)
            time.sleep(2)  # photos are loaded
            browser.save_screenshot(str(FOLDER / name))


@contextmanager
def console() -> Iterator[str]:
    """Start the demo shop's service and console on other ports than usual; yield the console's address."""
    from benchmarks.processes import free_ports

    port, admin_port, metrics_port, console_port = free_ports(4)
    values = load_settings(CONF).model_dump(mode="json")
    values["serving"] |= {"port": port, "admin_port": admin_port, "metrics_port": metrics_port}
    values["console"] |= {"port": console_port}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        conf = Path(folder) / "demo.json"
        conf.write_text(json.dumps(values))
        for command in ("serve", "console"):
            started = subprocess.Popen([sys.executable, "-m", "cli.main", command, "--conf", str(conf)])
            stack.callback(started.wait)
            stack.callback(started.terminate)
        url = f"http://127.0.0.1:{console_port}"
        wait_for_page(url)
        yield url


def wait_for_page(url: str) -> None:
    """Wait until the console shows a page that the service has answered."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            text = urllib.request.urlopen(f"{url}/window?user={USER}").read().decode()
            if 'class="card sale"' in text:
                return
        time.sleep(0.5)
    sys.exit(f"the service answered no page within {PATIENCE_S} s: run 'make demo' first")


if __name__ == "__main__":
    main()
