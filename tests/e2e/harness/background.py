"""One thing beside the test's own thread."""

import threading


def in_background(work):
    """Runs `work` on a thread. The returned function waits for its value, or its exception."""
    box = {}

    def run():
        try:
            box["value"] = work()
        except BaseException as error:  # handed to whoever waits
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join():
        thread.join()
        if "error" in box:
            raise box["error"]
        return box["value"]
    return join
