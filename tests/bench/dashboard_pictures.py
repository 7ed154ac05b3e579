"""The manual's pictures of the dashboard, from a store that `bench_dashboard seed` made.

    python -m tests.bench.bench_dashboard serve DIR
    python -m tests.bench.dashboard_pictures DIR [--out docs/pictures/dashboard] [--every]

Each page is taken at 1280x800, light, and at 390x844, dark; with `--every` in both sizes and both colours, as PNG. A page that
scrolls sideways, asks another host, or complains in the console is named, and the exit code is 1 then.
"""

import argparse
import sqlite3
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.bench.dashboard_seed import TOKEN

SIZES = {"": (1280, 800), "-phone": (390, 844)}
PAGES = {
    "tasks": "/tasks",
    "task": "/tasks/task-1",
    "task-definition": "/tasks/task-1?tab=definition",
    "task-triggers": "/tasks/task-1?tab=triggers",
    "task-changes": "/tasks/task-6?tab=changes",
    "new-task": "/tasks/new?preset=github-review",
    "run-form": "/tasks/task-1/run",
    "runs": "/runs",
    "run-failed": "/runs/{failed}",
    "run-transcript": "/runs/{transcript}?tab=transcript",
    "run-log": "/runs/{log}?tab=log",
    "queue": "/queue",
    "calendar": "/calendar",
    "costs": "/costs",
    "deliveries": "/deliveries",
    "delivery": "/deliveries/delivery-299990",
    "changes": "/changes",
    "change": "/changes/5",
    "pools": "/pools",
    "health": "/health",
    "palette": "/tasks",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/dashboard"))
    parser.add_argument("--base", default="http://127.0.0.1:8765")
    parser.add_argument("--every", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = _runs(options.directory)
    wanted = [("", "light"), ("-phone", "dark"), *([("", "dark"), ("-phone", "light")] if options.every else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        wrong = [said for size, colours in wanted for said in _take(browser, size, colours, names, options)]
        browser.close()
    print("\n".join(wrong) or "no page complains")
    sys.exit(bool(wrong))


def _runs(directory: Path) -> dict[str, str]:
    newest = "SELECT id FROM runs WHERE task_id LIKE ? AND state LIKE ? AND ended_at IS NOT NULL ORDER BY seq DESC LIMIT 1"
    with sqlite3.connect(f"file:{directory}/data/optio.db?mode=ro", uri=True) as connection:

        def run(task: str, state: str = "%") -> str:
            return str(connection.execute(newest, (task, state)).fetchone()[0])

        return {"failed": run("task-%", "failed"), "transcript": run("transcript"), "log": run("big-log")}


def _take(browser: Browser, size: str, colours: str, names: dict[str, str], options: argparse.Namespace) -> list[str]:
    """Take all pages in one size and colour. Return what is wrong with them."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if colours == "dark" else "light"
    )
    page = context.new_page()
    wrong: list[str] = []
    here = ""
    page.on("console", lambda said: wrong.append(f"{here}: {said.text}") if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(f"{here}: {error}"))
    page.on(
        "request", lambda asked: wrong.append(f"{here}: asks {asked.url}") if _is_elsewhere(asked.url, options.base) else None
    )
    page.goto(f"{options.base}/login")
    page.fill("input[name=token]", TOKEN)
    page.click("main button")
    page.wait_for_url("**/tasks")
    for name, path in PAGES.items():
        here = f"{name}{size} {colours}"
        page.goto(options.base + path.format(**names))
        page.wait_for_timeout(1200)
        if name == "palette":
            page.keyboard.press("/")
            page.keyboard.type("task-12")
            page.wait_for_timeout(800)
        over = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        if over > 0:
            wrong.append(f"{here}: scrolls {over} pixels sideways")
        file = options.out / f"{name}{size}"
        if options.every:
            page.screenshot(path=f"{file}-{colours}.png")
        else:
            page.screenshot(path=f"{file}.jpg", type="jpeg", quality=45)
    context.close()
    return wrong


def _is_elsewhere(url: str, base: str) -> bool:
    return not url.startswith((base, "data:", "blob:", base.replace("http", "ws", 1)))


if __name__ == "__main__":
    main()
