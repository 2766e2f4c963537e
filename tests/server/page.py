#!/usr/bin/env python3
"""The page at / as a person uses it, in Debian's headless Chromium.

  tests/server/page.py BALEEN MODEL [SCREENSHOTS]

Needs tests/server/requirements-page.txt and the packages chromium and chromium-driver; exits 77
without. With SCREENSHOTS, leaves pictures in that folder. Prints a line a check in GoogleTest's
manner.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
except ImportError:
    print("selenium is not installed (tests/server/requirements-page.txt)")
    sys.exit(77)

from harness import Server, chat_model, run_checks


class Page:
    def __init__(self, url, width=1100, height=900, dark=False):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--window-size={width},{height}", "--hide-scrollbars"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        self.url = url
        self.driver.get(url)
        self.wait(lambda: self.find("#model option"))

    def find(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError("waited in vain; the page says: " + self.one("body").text[-500:])
            time.sleep(0.05)

    def say(self, text):
        self.one("#prompt").send_keys(text)
        self.one("#send").click()
        self.wait(lambda: self.find(".message.assistant .figures"))

    def requests(self):
        urls = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return urls

    def complaints(self):
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def picture(self, folder, title):
        if folder:
            self.driver.save_screenshot(str(pathlib.Path(folder) / f"{title}.png"))

    def fits(self):
        """Nothing is wider than the window."""
        return self.js("return document.documentElement.scrollWidth <= window.innerWidth")

    def close(self):
        self.driver.quit()


def check_chat(url, pictures):
    page = Page(url + "/")
    try:
        page.say("Hello there")
        answer = page.one(".message.assistant")
        assert answer.text.strip()
        page.wait(lambda: page.one("#experts").is_displayed())
        page.one("#experts summary").click()
        assert "experts a layer" in page.wait(lambda: page.one("#heat-text").text)
        drawn = page.js("""const c = document.getElementById('heat');
            const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            return new Set(Array.from({length: data.length / 4}, (_, i) => data.slice(4*i, 4*i+4).join())).size""")
        assert drawn > 3, drawn
        page.picture(pictures, "chat")
        outside = [u for u in page.requests() if not u.startswith((url, "data:"))]
        assert not outside, outside
        assert not page.complaints(), page.complaints()
    finally:
        page.close()


def check_markdown(url, pictures):
    """The page's own renderer on what models write, and on what they must not get through."""
    page = Page(url + "/")
    try:
        text = ("# Title\n\nSome **bold** and `code` and [a link](https://example.org/x) and "
                "[none](javascript:alert(1)).\n\n- one\n- two\n  - inner\n\n1. first\n\n> quoted\n\n"
                "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f(x):  # a comment\n"
                "    return \"text\" + str(42)\n```\n"
                "<img src=x onerror='window.stolen=1'><script>window.stolen=1</script>\n")
        result = page.driver.execute_async_script("""
            const [text, done] = arguments;
            import('/page/markdown.js').then((m) => {
              const box = document.createElement('div');
              box.className = 'message assistant';
              box.append(m.markdown(text));
              document.getElementById('messages').append(box);
              setTimeout(() => done({html: box.innerHTML, stolen: window.stolen ?? null}), 200);
            })""", text)
        html = result["html"]
        for part in ("<h3>Title</h3>", "<strong>bold</strong>", "<code>code</code>",
                     'href="https://example.org/x"', "<li>two<ul><li>inner</li></ul></li>", "<ol>",
                     "<blockquote>", "<td>2</td>", '<span class="hl-word">def</span>',
                     '<span class="hl-comment"># a comment</span>',
                     '<span class="hl-string">"text"</span>', '<span class="hl-number">42</span>',
                     "&lt;img src=x"):
            assert part in html, (part, html)
        assert result["stolen"] is None and "<script" not in html and "javascript:" not in (
            html.replace("[none](javascript:alert(1))", "")), html
        page.picture(pictures, "markdown")
    finally:
        page.close()


def check_fill_in(url, pictures):
    page = Page(url + "/")
    try:
        page.one("[data-tab=fill]").click()
        page.one("#fill-send").click()
        page.wait(lambda: page.one("#fill-send").is_enabled() and page.find("#fill-result mark"))
        assert page.js("return document.querySelector('#fill-result mark').textContent.length") > 0
        page.picture(pictures, "fill")
    finally:
        page.close()


def check_live(url, pictures):
    page = Page(url + "/", dark=True)
    try:
        page.say("Once upon a time")
        page.one("[data-tab=live]").click()
        for _ in range(4):
            time.sleep(1)
            page.js("""for (let i = 0; i < 3; ++i) fetch('/v1/completions', {method: 'POST', body:
                JSON.stringify({prompt: 'One day '.repeat(100), max_tokens: 80, ignore_eos: true})})""")
        time.sleep(1.5)
        for chart in ("tokens", "latency", "cache"):
            # Dots of the lines' colours between the legend and the axis, where only values go.
            dots = page.js("""const c = document.getElementById(arguments[0]);
                const s = getComputedStyle(document.documentElement);
                const wanted = ['--accent', '--warm'].map((n) => s.getPropertyValue(n).trim());
                const {data} = c.getContext('2d').getImageData(48, 28, c.width - 48, c.height - 44);
                let n = 0;
                for (let i = 0; i < data.length; i += 4) {
                  n += wanted.includes('#' + [0, 1, 2].map((k) =>
                      data[i + k].toString(16).padStart(2, '0')).join(''));
                }
                return n""", "chart-" + chart)
            assert dots > 10, (chart, dots)
        page.picture(pictures, "live-dark")
        page.one("[data-tab=chat]").click()
        page.picture(pictures, "chat-dark")
        assert not page.complaints(), page.complaints()
    finally:
        page.close()


def check_phone(url, pictures):
    page = Page(url + "/", width=360, height=740)
    try:
        page.say("A rather long message, so that it has to be broken somewhere: " + "whale" * 30)
        assert page.fits()
        page.picture(pictures, "phone")
        for tab in ("fill", "live", "usage"):
            page.one(f"[data-tab={tab}]").click()
            time.sleep(0.3)
            assert page.fits(), tab
            page.picture(pictures, "phone-" + tab)
    finally:
        page.close()


def check_contrast(url, pictures):
    """WCAG's 4.5 to 1 between text and what is behind it, light and dark."""
    del pictures
    for dark in (False, True):
        page = Page(url + "/", dark=dark)
        try:
            ratios = page.js("""
                const style = getComputedStyle(document.documentElement);
                const light = (name) => {
                  const hex = style.getPropertyValue(name).trim();
                  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
                    .map((x) => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
                  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                const ratio = (a, b) => {
                  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
                  return (x + 0.05) / (y + 0.05);
                };
                return Object.fromEntries([["--text", "--back"], ["--text", "--raised"],
                  ["--faint", "--back"], ["--faint", "--raised"], ["--warm", "--raised"],
                  ["--accent", "--back"], ["--on-accent", "--accent"], ["--word", "--raised"],
                  ["--string", "--raised"], ["--number", "--raised"]]
                  .map(([a, b]) => [a + b, ratio(a, b)]));""")
            weak = {pair: value for pair, value in ratios.items() if value < 4.5}
            assert not weak, (dark, weak)
        finally:
            page.close()


def check_key(program, model, folder, pictures):
    """With keys the page asks for one, and shows what it used and what that cost."""
    database = str(folder / "page.db")
    key = subprocess.run([program, "keys", "add", "alice", "--database", database], check=True,
                         text=True, capture_output=True).stdout.strip()
    server = Server(program, model, "--database", database, "--machine-price", "0.4", "--watts",
                    "150", "--power-price", "0.3", "--reference-prices", "0.28,0.028,0.42",
                    "--reference-name", "reference")
    url = server.url.removesuffix("/v1")
    page = None
    try:
        page = Page.__new__(Page)
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        page.driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(executable_path=shutil.which("chromedriver")))
        page.driver.get(url)
        page.wait(lambda: page.one("#key-form").is_displayed())
        page.one("#key").send_keys(key)
        page.one("#key-form button").click()
        page.wait(lambda: page.find("#model option"))
        assert not page.one("#key-form").is_displayed()
        page.say("Once upon a time")
        page.one("[data-tab=usage]").click()
        page.wait(lambda: "alice" in page.one("#usage-table").text)
        assert "Cost on use, USD" in page.one("#usage-table").text
        page.picture(pictures, "usage")
        assert key not in page.js("return JSON.stringify(localStorage)")
    finally:
        if page:
            page.close()
        server.stop()


def main():
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        return 2
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        print("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
        return 77
    program, model = sys.argv[1:3]
    pictures = sys.argv[3] if len(sys.argv) == 4 else None
    if pictures:
        pathlib.Path(pictures).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "chat").mkdir()
        server = Server(program, chat_model(model, folder / "chat"), "--no-ledger", "--force-fim")
        url = server.url.removesuffix("/v1")
        checks = [(check, url, pictures) for check in (
            check_chat, check_markdown, check_fill_in, check_live, check_phone, check_contrast)]
        checks.append((lambda: server.stop(),))
        checks.append((check_key, program, model, folder, pictures))
        return run_checks("Page", checks)


if __name__ == "__main__":
    sys.exit(main())
