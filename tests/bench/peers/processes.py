"""The processes that hold engines: one runs at a time, the rest are stopped
(SIGSTOP), so that what spins while idle costs the measured one nothing."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import peers

HERE = pathlib.Path(__file__).resolve().parent
TWO_THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
# The engine stays in this process, and its threads each on their own core.
VLLM = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
LOW_MEMORY = 4 << 30  # below it, loaded engines are dropped, oldest first
START_SECONDS = 120


class PeerError(Exception):
    """The peer failed; its message goes into the results."""


def available_memory():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


class Child:
    """A process group that can be stopped and continued."""

    def __init__(self, command, log, **options):
        self.process = subprocess.Popen(
            list(map(str, command)), stderr=log, start_new_session=True,
            **options)

    def signal(self, number):
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def close(self):
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def closed_unless_started(child):
    try:
        yield
    except BaseException:
        child.close()
        raise


class Worker(Child):
    """An engine of a peer; see worker.py."""

    def __init__(self, root, name, kind, engine, log):
        peer = peers.PEERS[name]
        extra = {}
        if name == "vllm":
            extra = {**VLLM, "LD_PRELOAD": root / "vllm/lib/libiomp5.so"}
        python = root / peer.python if peer.python else sys.executable
        super().__init__(
            [python, HERE / f"worker_{name}.py", root, kind, engine], log,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **TWO_THREADS,
                 **(VLLM if name == "vllm" else {})})
        with closed_unless_started(self):
            self.version = self.answer()["ready"]["version"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(f"ended with {self.process.wait()}")
        message = json.loads(line)
        if "error" in message:
            raise PeerError(message["error"])
        return message

    def run(self, requests, in_flight, output):
        order = {"requests": requests, "in_flight": in_flight,
                 "output": output}
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"ended with {self.process.wait()}") from None
        message = self.answer()
        return message["seconds"], message["answers"]


class Descant(Child):
    """descant-server, measured by `descant bench`."""

    def __init__(self, binaries, model, kind, log):
        self.binaries, self.log = binaries, log
        self.folder = tempfile.TemporaryDirectory(prefix="descant-peers-")
        ports = free_ports(3)
        self.target = f"127.0.0.1:{ports[0]}"
        super().__init__(
            [binaries / "descant-server", f"--model={model}",
             f"--weights={kind}", f"--listen={self.target}",
             f"--admin-listen=127.0.0.1:{ports[1]}",
             f"--metrics-listen=127.0.0.1:{ports[2]}",
             f"--adapter-dir={self.folder.name}/adapters"], log, stdout=log)
        with closed_unless_started(self):
            self.wait_until_it_answers(kind)
        self.version = subprocess.run(
            [binaries / "descant-server", "--version"], capture_output=True,
            text=True, check=False).stdout.strip().splitlines()[0]

    def wait_until_it_answers(self, kind):
        end = time.monotonic() + START_SECONDS
        while self.client("models").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > end:
                raise PeerError(f"descant-server does not serve {kind}")
            time.sleep(0.1)

    def client(self, *arguments):
        return subprocess.run(
            [self.binaries / "descant", "--target", self.target, *arguments],
            stdout=subprocess.PIPE, stderr=self.log, text=True, check=False)

    def bench(self, workload, seed, checked):
        """{leg: output tokens a second}; PeerError where bench says
        INVALID."""
        options = [] if checked else ["--unchecked"]
        done = self.client("--json", "bench", "--workload", workload, "--pairs",
                           "1", "--seed", str(seed), *options)
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise PeerError(f"descant bench ended with {done.returncode}") \
                from None
        if not result.get("valid"):
            raise PeerError(f"INVALID: {result.get('reason')}")
        return {leg["name"]: leg["output_tokens_per_s"]["median"]
                for leg in result["legs"]}

    def close(self):
        super().close()
        self.folder.cleanup()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Loaded:
    """Engines that are loaded, all paused but the one in use."""

    def __init__(self):
        self.children = {}

    def get(self, key, start):
        """The child of `key`, awake; started if it isn't there. The second
        value tells whether it was."""
        for other, child in self.children.items():
            if other != key:
                child.pause()
        fresh = key not in self.children
        if fresh:
            while self.children and available_memory() < LOW_MEMORY:
                self.drop(next(iter(self.children)))
            self.children[key] = start()
        child = self.children.pop(key)
        self.children[key] = child  # the youngest
        child.resume()
        return child, fresh

    def drop(self, key):
        child = self.children.pop(key, None)
        if child is not None:
            child.close()

    def close(self):
        for key in list(self.children):
            self.drop(key)
