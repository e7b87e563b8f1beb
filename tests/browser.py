"""A browser, as a test drives it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait


def leads_on(element: WebElement) -> None:
    """Clicks on it, and waits until its page is gone."""
    element.click()
    # While the pages change, Chrome's driver may answer with an error of its own (SeleniumHQ/selenium#15401): ask again.
    WebDriverWait(element.parent, 60, ignored_exceptions=[WebDriverException]).until(staleness_of(element))


def send(window: webdriver.Chrome, button: str, **fields: str) -> None:
    """Fills in a form's fields, and waits for the page that follows on the button, a CSS selector."""
    for name, value in fields.items():
        field = window.find_element(By.NAME, name)
        field.clear()
        field.send_keys(value)
    leads_on(window.find_element(By.CSS_SELECTOR, button))


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium, 380 pixels wide, as on a phone."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        skip = pytest.fail if os.environ.get("CI") else pytest.skip
        skip("no browser: on Debian, apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # The last three keep it from asking for anything but the page. A container's root has no sandbox.
    for argument in ("headless", "no-sandbox", "disable-gpu", "window-size=380,800"):
        options.add_argument(f"--{argument}")
    for argument in ("disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()
