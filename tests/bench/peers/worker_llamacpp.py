"""llama.cpp: llama-server, asked over HTTP by threads that only wait.

Engines: base-N (N slots, no adapters; with adapters loaded even base requests
are slower), one, eight (so many narrow adapters and slots), narrow and wide (32
of a shape, 32 slots).
"""

import http.client
import json
import queue
import socket
import subprocess
import threading
import time

import worker

TYPES = {"bf16": "bf16", "int8": "Q8_0", "int4": "Q4_0"}
# Engine: slots, adapters, shape.
ENGINES = {"base-1": (1, 0, ""), "base-8": (8, 0, ""), "base-32": (32, 0, ""),
           "one": (1, 1, "narrow"), "eight": (8, 8, "narrow"),
           "narrow": (32, 32, "narrow"), "wide": (32, 32, "wide")}
CONTEXT = 256  # a slot; prompt and output are 192 tokens
START_SECONDS = 60


class LlamaCpp:
    def __init__(self, folder, kind, engine):
        slots, self.adapters, shape = ENGINES[engine]
        models = folder / "models" / "llamacpp"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [folder / "llamacpp/build/bin/llama-server",
                   "-m", models / f"{TYPES[kind]}.gguf", "-t", "2",
                   "-np", slots, "-c", slots * CONTEXT, "--cache-ram", "0",
                   "--host", "127.0.0.1", "--port", self.port]
        if self.adapters:
            files = (str(models / f"{shape}-{i}.gguf")
                     for i in range(self.adapters))
            command += ["--lora", ",".join(files), "--lora-init-without-apply"]
        self.server = subprocess.Popen(list(map(str, command)),
                                       stdin=subprocess.DEVNULL)
        self.wait_until_healthy()
        self.version = "llama.cpp " + (
            folder / "llamacpp/version.txt").read_text().strip()

    def wait_until_healthy(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.server.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.close()
        raise RuntimeError("llama-server is not ready")

    def ask(self, connection, ids, adapter, output):
        body = {"prompt": ids, "n_predict": output, "temperature": 0,
                "top_k": 1, "ignore_eos": True, "cache_prompt": False,
                "return_tokens": True}
        if self.adapters and adapter is not None:
            body["lora"] = [{"id": adapter, "scale": 1.0}]
        connection.request("POST", "/completion", json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"llama-server: {text[:200]}")
        return json.loads(text)["tokens"]

    def run(self, requests, in_flight, output):
        waiting = queue.SimpleQueue()
        for i in range(len(requests)):
            waiting.put(i)
        answers, errors = [None] * len(requests), []

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            try:
                while True:
                    i = waiting.get_nowait()
                    answers[i] = self.ask(connection, *requests[i], output)
            except queue.Empty:
                pass
            except Exception as error:
                errors.append(error)

        clients = [threading.Thread(target=client) for _ in range(in_flight)]
        began = time.perf_counter()
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        seconds = time.perf_counter() - began
        if errors:
            raise errors[0]
        return seconds, answers

    def close(self):
        self.server.terminate()
        self.server.wait()


if __name__ == "__main__":
    worker.serve(LlamaCpp)
