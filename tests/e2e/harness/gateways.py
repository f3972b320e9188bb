"""Further gateways of a cluster, as its operator would start them: the same configuration, a process each."""

import json
import os
import resource
import subprocess
import tomllib

import httpx

from . import processes
from .processes import wait_until


def _toml(sections):
    lines = []
    for name, keys in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


class Gateway:
    """`settings`: of its [gateway] section, over those of the cluster. `descriptors`: its limit."""

    def __init__(self, cluster, name, controller=None, descriptors=None, **settings):
        def prepare():
            processes.die_with_parent()
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        self.program = cluster.program
        self.log_file = cluster.directory / f"{name}.log"  # with the others: alarms are looked for there
        self.admin = None
        sections = tomllib.loads((cluster.directory / "pdserve.toml").read_text())
        sections["gateway"] = {**sections["gateway"], "port": 0, **settings}
        config = cluster.folder / f"{name}.toml"
        config.write_text(_toml(sections))
        reading, writing = os.pipe()
        self._ready = os.fdopen(reading)
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [self.program.path, "gateway", "--config", str(config), "--controller",
                 controller or cluster.state["controller"], "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=[writing],
                env={**os.environ, processes.MARK: cluster.mark},
                preexec_fn=prepare)
        os.close(writing)

    def wait_serving(self):
        """Until it accepts connections; fails with what it said if it ends instead."""
        line = self._ready.readline()
        self._ready.close()
        assert line, f"it ended with {self.process.wait()}: {self.log()}"
        self.port, *admin = line.split()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin = f"127.0.0.1:{admin[0]}" if admin else None
        return self

    def wait_ready(self):
        self.wait_serving()
        wait_until(lambda: self.health()["status"] == "ok", 20 * self.program.patience, self.log)
        return self

    def health(self):
        return httpx.get(f"{self.url}/health").json()

    def metrics(self):
        text = httpx.get(f"{self.url}/metrics").text
        pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def log(self):
        return self.log_file.read_text(errors="replace")

    def wait_end(self, limit=60.0):
        wait_until(lambda: self.process.poll() is not None, limit * self.program.patience,
                   lambda: f"its end: {self.log()}")
        assert self.process.returncode == 0, self.log()

    def end(self, limit=20.0):
        """Asks it to end; its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=limit * self.program.patience)
