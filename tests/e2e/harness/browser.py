"""A browser without a window: what a page makes of itself."""

import re
import shutil
import subprocess
import tempfile


def is_there():
    return shutil.which("chromium") is not None


class Page:
    """The document after its scripts have run."""

    def __init__(self, path, limit):
        # A profile of its own: one that another browser holds would be refused.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            done = subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
                 "--disable-dev-shm-usage", f"--user-data-dir={profile}",
                 "--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom",
                 f"file://{path}"],
                capture_output=True, text=True, timeout=limit)
        assert done.returncode == 0, done.stderr
        self.document = done.stdout
        self.console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        # The scripts hold the words of everything they might show.
        self.shown = re.sub(r"<script>.*?</script>", "", self.document, flags=re.S)

    def headings(self):
        return re.findall(r"<h2>(.*?)</h2>", self.shown)

    def plots(self):
        """Title -> its picture."""
        return dict(re.findall(r'<svg [^>]*aria-label="([^"]*)">(.*?)</svg>', self.shown, re.S))
