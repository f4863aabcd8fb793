"""The console in Chromium: what staff do, by keyboard too; every page accessible, narrow and wide, and quiet."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from console.server import serve_console
from serving.client import Client
from tests.helpers.console_shop import ConsoleShop
from tests.helpers.small_shop import MLFLOW_WARNS

pytestmark = MLFLOW_WARNS  # the console runs in this process
AXE = Path(__file__).parent / "axe"
INSTALL = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
PAGES = (
    *(
        "/",
        "/window?user={user}&beside=collaborative",
        "/sales",
        "/sales/{sale}",
        "/photos",
        "/models",
        "/experiments",
        "/rules",
    ),
    *("/health", "/changes", "/nothing"),
)


@pytest.fixture(scope="module")
def url(shop: ConsoleShop) -> str:
    """The address of the shop's console."""
    told: list[str] = []
    Thread(target=serve_console, args=(shop.settings(shop.server, port=0), told.append), daemon=True).start()
    wait_for(lambda: told)
    return told[0]


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A browser that has seen no error when the test ends."""
    browser.get_log("browser")
    browser.set_window_size(1300, 900)
    yield browser
    noted = [each["message"] for each in browser.get_log("browser") if "404 (Not Found)" not in each["message"]]
    assert noted == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, the checker of accessibility."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: install Node 18 or later to check the pages with axe-core")
    folder = tmp_path_factory.mktemp("axe") / "axe"
    shutil.copytree(AXE, folder)
    try:
        subprocess.run(INSTALL, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"axe-core cannot be installed: {str(error.stderr or error)[:200]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


def wait_for(is_so: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def names(browser: Any, css: str) -> list[str]:
    return [each.text for each in browser.find_elements("css selector", css)]


def test_visits_rank_the_page_again_without_leaving_it(page, url, shop):
    user = shop.night.users[3]
    with Client(shop.server.target) as client:
        first = [sale.title for sale in client.top_sales(user, preview=True).sales]
        page.get(f"{url}/window?user={user}")
        assert names(page, ".window .name") == first
        page.execute_script("window.sameDocument = true")
        page.find_elements("css selector", ".visit")[4].click()
        wait_for(lambda: page.find_elements("css selector", ".chip"))
        session = page.current_url.split("session=")[1]
        again = [sale.title for sale in client.top_sales(user, session=[session], preview=True).sales]
    assert names(page, ".window .name") == again
    assert page.execute_script("return window.sameDocument")  # only the page of sales was loaded
    link = page.current_url
    page.get(link)  # as a colleague would, to whom it was sent
    assert names(page, ".window .name") == again


def test_mistyped_sale_is_found_taken_off_and_put_back_by_keyboard(page, url, shop):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        ActionChains(page).send_keys(*keys).perform()

    def focused() -> Any:
        return page.switch_to.active_element

    with Client(shop.server.target) as client:
        sale_id = client.top_sales(shop.night.users[1], preview=True).sales[0].sale_id
        page.get(f"{url}/sales")
        page.find_element("id", "q").send_keys(sale_id)
        wait_for(lambda: len(page.find_elements("css selector", "table.sales tbody tr")) == 1)
        assert f"q={sale_id}" in page.current_url
        while focused().tag_name != "a" or sale_id not in (focused().get_attribute("href") or ""):
            press(Keys.TAB)
        press(Keys.ENTER)
        wait_for(lambda: page.find_elements("id", "why-hide"))
        while focused().get_attribute("id") != "why-hide":
            press(Keys.TAB)
        press("The price is mistyped", Keys.ENTER)
        wait_for(lambda: page.find_elements("id", "why-show"))
        assert "hidden" in names(page, "header .state")
        shown = [sale.sale_id for sale in client.top_sales(shop.night.users[1], preview=True).sales]
        assert sale_id not in shown
        page.find_element("id", "why-show").send_keys("Mended", Keys.ENTER)
        wait_for(lambda: "open" in names(page, "header .state"))
        assert client.top_sales(shop.night.users[1], preview=True).sales[0].sale_id == sale_id


def test_rules_are_checked_while_they_are_typed_and_tried(page, url):
    page.get(f"{url}/rules")
    wait_for(lambda: "nothing wrong" in page.find_element("id", "checked").text)
    text = page.find_element("id", "text")
    text.clear()
    text.send_keys(
        "schema_version: 1\nrules:\n- {kind: filter, name: none_left, match: {title: {$exists: true}}}\n- {kind: x}"
    )
    wait_for(lambda: "rules.1" in page.find_element("id", "checked").text)
    text.send_keys("\b" * len("\n- {kind: x}"))
    wait_for(lambda: "1 rule, nothing wrong" in page.find_element("id", "checked").text)
    page.find_element("css selector", "button[hx-post='/rules/try']").click()
    wait_for(lambda: "sampled users' pages would change" in page.find_element("id", "tried").text)
    assert "none_left" in page.find_element("id", "tried").text


@pytest.mark.parametrize("path", ["/experiments", "/models"])
def test_page_fills_what_takes_longer(page, url, path):
    page.get(url + path)
    part, told = ("checked", "nothing wrong") if path == "/experiments" else ("versions", "No version is registered")
    wait_for(lambda: told in page.find_element("id", part).text)


def test_health_fills_itself(page, url):
    page.get(f"{url}/health")
    wait_for(lambda: len(page.find_elements("css selector", ".findings li")) > 10)


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_fit_at_every_width(page, url, shop, axe, width, scheme):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    values = {"user": shop.night.users[3], "sale": shop.night.sales[0].sale_id}
    try:
        for path in PAGES:
            page.get(url + path.format(**values))
            if path == "/health":
                wait_for(lambda: len(page.find_elements("css selector", ".findings li")) > 10)
            for details in page.find_elements("css selector", "details")[:2]:
                page.execute_script("arguments[0].open = true", details)
            page.execute_script(axe)
            found = page.execute_async_script(
                "const done = arguments[arguments.length - 1];"
                "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}).then(done)"
            )
            told = [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]
            assert told == [], path
            assert len(found["passes"]) > 5
            assert page.execute_script("return document.documentElement.scrollWidth") <= width, path
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_no_request_leaves_for_another_host(page, url, shop):
    page.get(f"{url}/window?user={shop.night.users[3]}")
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert loaded
    assert [each for each in loaded if not each.startswith(url)] == []
