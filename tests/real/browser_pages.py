"""A real browser (Chromium), which says what went wrong on its pages. Mark its users real("chromium")."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, async_playwright

from tests.real.npm_packages import installed

_OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser; it ends with the context."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_OPTIONS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Window:
    """A page, and what it complained about; every host that it asked."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    async def accessibility_findings(self) -> list[str]:
        """Answer what axe finds wrong: the rule, and where."""
        axe = installed(Path(__file__).parent / "browser") / "node_modules" / "axe-core" / "axe.min.js"
        await self.page.evaluate(axe.read_text())
        found: dict[str, Any] = await self.page.evaluate("axe.run()")
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


@asynccontextmanager
async def window(
    browser: Browser, *, width: int = 1280, height: int = 800, dark: bool = False, scripts: bool = True
) -> AsyncIterator[Window]:
    """Open a window of its own, with its own cookies."""
    context = await browser.new_context(
        ignore_https_errors=True,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
    )
    try:
        yield Window(await context.new_page())
    finally:
        await context.close()
