"""The frame of a worker: a process that holds one engine of one peer, so that
it stays loaded between repetitions. Standard library only.

One JSON object a line in, one out:
  in   {"requests": [[ids, adapter or null], ...], "in_flight": n, "output": n}
  out  {"seconds": s, "answers": [[token, ...], ...]}, or {"error": text}
The first line out is {"ready": {"version": ...}}. What the engine itself
prints goes to standard error.

A worker is started as  worker_PEER.py FOLDER TYPE ENGINE  with FOLDER .deps/peers,
TYPE bf16, int8 or int4, and ENGINE a key of ENGINES in peers.py.
"""

import json
import os
import pathlib
import sys
import traceback


def adapter_folder(models, shape, i):
    return pathlib.Path(models) / "adapters" / shape / str(i)


def serve(make):
    """make(folder, type, engine) -> object with .version and
    .run(requests, in_flight, output) -> (seconds, answers)."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message):
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        engine = make(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3])
        say({"ready": {"version": engine.version}})
        for line in sys.stdin:
            order = json.loads(line)
            seconds, answers = engine.run(order["requests"], order["in_flight"],
                                          order["output"])
            say({"seconds": seconds, "answers": answers})
    except Exception as error:
        traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}"})
    finally:
        close = getattr(locals().get("engine"), "close", None)
        if close:
            close()


def in_waves(requests, in_flight):
    for i in range(0, len(requests), in_flight):
        yield requests[i:i + in_flight]
