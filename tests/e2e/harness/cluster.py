"""A cluster of real processes: started by `pdserve up`, looked at, hurt, and cleaned up."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import uuid

import httpx

from . import processes
from .processes import wait_until

# What a log never holds, whatever was killed: broken invariants and sanitizer reports.
ALARMS = re.compile(r"invariant broken|AddressSanitizer|LeakSanitizer|ThreadSanitizer|"
                    r"runtime error:|terminate called|Assertion .* failed")
LEASE_S = 5.0  # the default of [cluster] lease


@dataclasses.dataclass(frozen=True)
class Program:
    """The pdserve under test."""
    path: str
    model: str  # of most tests
    weights_directory: str  # packed weights, shared by all clusters of a run
    patience: float = 1.0  # factor on all time limits: a sanitized build is slower

    def run(self, *arguments, stdin="", limit=60.0, environment=None):
        return subprocess.run([self.path, *map(str, arguments)], input=stdin, text=True,
                              capture_output=True, timeout=limit * self.patience,
                              env={**os.environ, **(environment or {})})


@dataclasses.dataclass(frozen=True)
class Instance:
    id: int
    role: str
    state: str
    pid: int
    boot: str
    address: str


class Cluster:
    def __init__(self, program, folder, *, prefill=1, decode=1, config=None, model=None,
                 arguments=(), certificate=None):
        self.program = program
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.directory = folder / "cluster"
        self.temporary = folder / "tmp"
        self.state_file = folder / "state.json"
        self.output_file = folder / "up.txt"
        self.config_file = folder / "config.toml"
        self.model_path = model or program.model
        self.prefill, self.decode = prefill, decode
        self.arguments = list(arguments)
        self.config = config or {}
        self.lease = float(self.config.get("cluster", {}).get("lease", f"{LEASE_S}s").rstrip("s"))
        self.deaths = 0  # of instances, as the test knows; each is to have one substitute
        self.killed = set()  # boot ids: the controller learns of a death a moment after it
        self.process = None
        self.state = None
        # `certificate`: the file of the gateway's own, when the configuration gives it one.
        trust = ssl.create_default_context(cafile=certificate) if certificate else True
        self.http = httpx.Client(timeout=10 * program.patience, verify=trust)

    # ---- life ----

    def spawn(self):
        """Starts `pdserve up` and returns at once."""
        self.temporary.mkdir(parents=True)
        self._write_config()
        self._shared_memory = processes.shared_memory()
        group = []
        if not self.config.get("group", {}).get("both"):
            group = ["--prefill", self.prefill, "--decode", self.decode]
        command = [self.program.path, "up", "--model", self.model_path, *group,
                   "--host", "127.0.0.1", "--port", "0", "--config", self.config_file,
                   "--no-question", "--state", self.state_file, *self.arguments]
        with open(self.output_file, "wb") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.temporary), processes.MARK: self.mark},
                preexec_fn=processes.die_with_parent)
        return self

    def start(self):
        self.spawn()
        limit = 40 * self.program.patience
        wait_until(lambda: self.state_file.exists() or self.process.poll() is not None, limit,
                   lambda: f"no state file; up says: {self.output()}\n{self.logs()}")
        assert self.process.poll() is None, f"up ended: {self.output()}\n{self.logs()}"
        self.state = json.loads(self.state_file.read_text())
        self.directory = pathlib.Path(self.state["directory"])
        return self

    def _write_config(self):
        sections = {name: dict(keys) for name, keys in self.config.items()}
        own = sections.setdefault("cluster", {})
        own.setdefault("weights_directory", self.program.weights_directory)
        if own.setdefault("directory", str(self.directory)) is None:
            del own["directory"]  # `up` makes one, and removes it
        lines = []
        for name, keys in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        self.config_file.write_text("\n".join(lines) + "\n")

    def end(self, how=signal.SIGTERM):
        """Ends it in order; its exit status. Every instance that died has one substitute."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=25 * self.program.patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"up did not end within 25 s: {self.output()}\n{self.logs()}")

    def check_and_end(self):
        """The last assertions of every test on a cluster that is whole."""
        self.wait_complete()
        self.wait_idle()
        status = self.status()
        assert status["substitutes"] == self.deaths, f"{status}\n{self.logs()}"
        self.check_metrics()
        code = self.end()
        assert code == 0, f"up ended with {code}: {self.output()}\n{self.logs()}"
        self.check_nothing_left()

    def check_nothing_left(self):
        left = processes.gone(self.mark, 5 * self.program.patience)
        assert not left, f"processes remain: {left}"
        remains = [str(path) for path in self.temporary.iterdir()]
        assert not remains, f"temporary files remain: {remains}"
        news = processes.shared_memory() - self._shared_memory
        assert not (lost := processes.unmapped(news)), f"shared memory remains: {lost}"
        alarms = [line for line in self.logs(None).splitlines() if ALARMS.search(line)]
        assert not alarms, f"alarms: {alarms[:10]}\n{self.logs(60)}"

    def close(self):
        """Whatever happened: afterwards no process of this cluster lives."""
        processes.kill_marked(self.mark)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.http.close()

    # ---- looking ----

    @property
    def gateway(self):
        return self.state["gateway"]

    @property
    def model(self):
        return self.state.get("model") or os.path.basename(str(self.model_path))

    def output(self):
        return self.output_file.read_text(errors="replace") if self.output_file.exists() else ""

    def serves(self):
        """Whether the gateway answers, and has instances to serve."""
        try:
            return self.http.get(f"{self.gateway}/health").status_code == 200
        except httpx.TransportError:
            return False

    def logs(self, lines=25):
        """The last lines of each log, for messages; None: everything."""
        parts = []
        for path in sorted(self.directory.glob("*.log")):
            text = path.read_text(errors="replace").splitlines()
            parts.append(f"--- {path.name}\n" + "\n".join(text if lines is None else text[-lines:]))
        return "\n".join(parts)

    def _authorization(self):
        secret = (self.directory / "secret").read_text().strip()
        return {"authorization": f"Bearer {secret}"}

    def status(self):
        """What the controller says."""
        answer = self.http.get(f"http://{self.state['controller']}/cluster/v1/status",
                               headers=self._authorization())
        answer.raise_for_status()
        return answer.json()

    def instances(self, role=None):
        return [Instance(entry["id"], entry["role"], entry["state"], entry.get("pid", 0),
                         entry["boot"], entry.get("address", ""))
                for entry in self.status()["instances"] if role in (None, entry["role"])]

    def ask(self, instance, timeout=5.0):
        """What the instance says of itself, now."""
        answer = self.http.get(f"http://{instance.address}/control/v1/status",
                               headers=self._authorization(), timeout=timeout)
        answer.raise_for_status()
        return answer.json()

    def held(self, instance):
        """(slots, requests, blocks) that it holds now."""
        status = self.ask(instance)
        return status["slots_used"], status["requests"], status["blocks_used"]

    def metrics(self):
        """The gateway's metrics without labels: name -> value."""
        found = {}
        for line in self.http.get(f"{self.gateway}/metrics").text.splitlines():
            if line and not line.startswith("#") and "{" not in line:
                name, value = line.split()[:2]
                found[name] = float(value)
        return found

    def check_metrics(self):
        """received = completed + failed + rejected + cancelled + in flight, at any time."""
        m = self.metrics()
        ends = ("completed_total", "failed_total", "rejected_total", "cancelled_total", "in_flight")
        assert m["pdserve_requests_received_total"] == sum(
            m[f"pdserve_requests_{end}"] for end in ends), m
        return m

    # ---- waiting for what others do ----

    def wait_complete(self, limit=30.0):
        """Until every wanted instance serves and the gateway knows it."""
        def whole():
            status = self.status()
            if not status["complete"] or self.killed & {i["boot"] for i in status["instances"]}:
                return False
            health = self.http.get(f"{self.gateway}/health").json()
            return health["topology_revision"] >= status["revision"]
        wait_until(whole, limit * self.program.patience,
                   lambda: f"group complete; {self.status()}\n{self.logs()}")

    def wait_idle(self, limit=None):
        """Until no instance holds anything; at most the lease and a second, the guarantee."""
        limit = self.lease + 1 if limit is None else limit

        def held():
            return {i.id: self.held(i) for i in self.instances() if i.state == "serving"}
        wait_until(lambda: all(set(h) == {0} for h in held().values()),
                   limit * self.program.patience,
                   lambda: f"slots, requests, blocks still held: {held()}\n{self.logs()}")
        wait_until(lambda: self.metrics()["pdserve_requests_in_flight"] == 0,
                   self.program.patience, lambda: f"requests in flight: {self.metrics()}")

    # ---- hurting ----

    def signal(self, instance, number):
        # 0 would be this test's own process group.
        assert instance.pid > 1 and processes.has_mark(instance.pid, self.mark), instance
        os.kill(instance.pid, number)

    def signal_pid(self, name, number):
        """To the gateway or the controller."""
        pid = self.state["pids"][name]
        assert pid > 1 and processes.has_mark(pid, self.mark), name
        os.kill(pid, number)

    def kill(self, instance):
        """kill -9. The test expects one substitute."""
        self.signal(instance, signal.SIGKILL)
        self.deaths += 1
        self.killed.add(instance.boot)

    def freeze(self, instance):
        self.signal(instance, signal.SIGSTOP)
        # A signal takes effect a moment later; nothing runs any more once every thread is stopped.
        wait_until(lambda: self._stopped(instance.pid), 5, f"{instance} stopped", pause=0.001)

    def thaw(self, instance):
        self.signal(instance, signal.SIGCONT)

    @staticmethod
    def _stopped(pid):
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as stat:
                    if stat.read().rsplit(")", 1)[1].split()[0] not in ("T", "t"):
                        return False
        except FileNotFoundError:
            return False
        return True
