#!/usr/bin/env python3
"""Descant and its peers in one interleaved run; see README.md."""

import argparse
import contextlib
import datetime
import json
import pathlib
import random
import signal
import sys
import time

import checks
import machine
import peers
import processes
import report
import schedule
import workloads

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WARM_UP_TOKENS = 8
OVERHEAD_SECONDS = 0.5  # of a measurement, beside the load itself


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=list(peers.PEERS),
                        help="a peer; may be repeated (default: all)")
    parser.add_argument("--types", default=",".join(peers.TYPES),
                        help="weight types, with commas")
    parser.add_argument("--workloads",
                        default="W-single,W-eight,W-base,W-mixed,W-wide")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--budget", type=float, metavar="MINUTES",
                        help="after the first repetition, give up further ones "
                        "of the slowest legs to end in this time")
    parser.add_argument("--results", type=pathlib.Path,
                        default=ROOT / "build/peers/current",
                        help="folder of results.jsonl; what it has is not "
                        "measured again")
    parser.add_argument("--descant", type=pathlib.Path,
                        default=ROOT / "build/release/bin",
                        help="folder of descant and descant-server")
    parser.add_argument("--model", type=pathlib.Path, default=(
        ROOT / ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--peers", type=pathlib.Path,
                        default=ROOT / ".deps/peers")
    parser.add_argument("--out", type=pathlib.Path,
                        default=ROOT / "build/peers",
                        help="folder of the report (tests/bench/peers/results "
                        "to publish it)")
    parser.add_argument("--report", action="store_true",
                        help="only write the report of what is there")
    return parser.parse_args()


class Run:
    def __init__(self, args):
        self.args = args
        args.results.mkdir(parents=True, exist_ok=True)
        self.path = args.results / "results.jsonl"
        self.lines = []
        if self.path.exists():
            self.lines = [json.loads(line) for line in
                          self.path.read_text().splitlines()]
        if not self.lines:
            self.write({"header": {
                "seed": random.SystemRandom().randrange(1 << 32),
                "machine": machine.describe(), "commit": machine.commit(ROOT),
                "date": datetime.date.today().isoformat()}})
        self.seed = self.lines[0]["header"]["seed"]
        self.loaded = processes.Loaded()
        self.log = (args.results / "engines.log").open("a")
        self.given_up = {}  # (peer, type, engine): why
        self.warm = set()
        self.probes = {}  # by file
        self.began = time.monotonic()

    def write(self, line):
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def done(self):
        """{(peer, type, leg, repetition)} with a valid result."""
        return {(r["peer"], r["type"], r["leg"], r["repetition"])
                for r in self.lines if r.get("tokens_per_s")}

    def seconds_left(self):
        if self.args.budget is None:
            return float("inf")
        return self.args.budget * 60 - (time.monotonic() - self.began)

    # What is measured, in order: (peer, type, [leg, ...] or a workload).
    def items(self):
        wanted = self.args.workloads.split(",")
        for name in self.args.only or peers.PEERS:
            for kind in peers.PEERS[name].types:
                if kind not in self.args.types.split(","):
                    continue
                for workload in wanted:
                    legs = [leg for leg in workloads.LEGS
                            if workloads.workload_of(leg) == workload]
                    if name == "descant":
                        yield name, kind, tuple(legs)
                    else:
                        for leg in legs:
                            yield name, kind, (leg,)

    def measure(self, item, repetition):
        name, kind, legs = item
        done = self.done()
        if all((name, kind, leg, repetition) in done for leg in legs):
            return
        began = time.monotonic()
        engine = ("" if name == "descant"
                  else peers.PEERS[name].engines[legs[0]])
        key = (name, kind, engine)
        results, extra = {}, {}
        try:
            if key in self.given_up:
                raise processes.PeerError(self.given_up[key])
            if name == "descant":
                results = self.bench(key, legs, repetition, extra)
            else:
                results = {legs[0]: self.leg(key, legs[0], repetition, extra)}
        except processes.PeerError as error:
            extra["invalid"] = str(error)
            self.loaded.drop(key)
        wall = time.monotonic() - began
        for leg in legs:
            line = {"peer": name, "type": kind, "leg": leg,
                    "repetition": repetition,
                    "wall_s": round(wall / len(legs), 2), **extra}
            if leg in results:
                line["tokens_per_s"] = round(results[leg], 2)
            self.write(line)
            print(f"[{(time.monotonic() - self.began) / 60:5.1f} min] "
                  f"{repetition}  {name:9} {kind:5} {leg:17} "
                  + (f"{results[leg]:8.1f} tokens/s" if leg in results
                     else f"INVALID: {extra.get('invalid', 'no result')}"),
                  flush=True)

    def bench(self, key, legs, repetition, extra):
        """Descant: its own bench, which makes prompts and adapters from the
        seed and checks each answer; the thorough checks before the first
        repetition only."""
        _, kind, _ = key
        try:
            server, _ = self.loaded.get(key, lambda: processes.Descant(
                self.args.descant, self.args.model, kind, self.log))
        except processes.PeerError as error:
            self.given_up[key] = str(error)
            raise
        extra["version"] = server.version
        workload = workloads.workload_of(legs[0])
        checked = repetition == 1
        extra["checked"] = checked
        return server.bench(workload, self.seed + 1000 * repetition, checked)

    def leg(self, key, leg_name, repetition, extra):
        name, kind, engine = key
        try:
            worker, fresh = self.loaded.get(key, lambda: processes.Worker(
                self.args.peers, name, kind, engine, self.log))
        except processes.PeerError as error:
            self.given_up[key] = str(error)
            raise
        if fresh:
            self.warm = {one for one in self.warm if one[0] != key}
        extra["version"] = worker.version
        leg = workloads.LEGS[leg_name]
        requests = workloads.requests(leg, self.seed + 1000 * repetition)
        if (key, leg_name) not in self.warm:
            extra["probes"], complaint = checks.probe(
                worker.run, self.probes_of(name, kind)[leg.shape], leg)
            if complaint:
                raise processes.PeerError(f"INVALID: {complaint}")
            others = workloads.requests(leg, f"warm-up {self.seed}")
            worker.run(others[:max(leg.in_flight, 2)], leg.in_flight,
                       WARM_UP_TOKENS)
            self.warm.add((key, leg_name))
        seconds, answers = worker.run(requests, leg.in_flight,
                                      workloads.OUTPUT_TOKENS)
        complaint = checks.lengths(answers, requests, workloads.OUTPUT_TOKENS)
        if complaint:
            raise processes.PeerError(f"INVALID: {complaint}")
        return sum(map(len, answers)) / seconds

    def probes_of(self, name, kind):
        # int8 is near enough to bf16 to be held to the same answers.
        path = self.args.peers / "models" / (
            "probes-q4_0.json" if (name, kind) == ("llamacpp", "int4")
            else "probes-bf16.json")
        if path not in self.probes:
            self.probes[path] = json.loads(path.read_text())
        return self.probes[path]

    def costs(self, items):
        """Seconds that one more measurement of each item takes, from its
        latest rate; what never worked costs nothing."""
        rate = {(line["peer"], line["type"], line["leg"]): line["tokens_per_s"]
                for line in self.lines if line.get("tokens_per_s")}
        costs = {}
        for item in items:
            costs[item] = sum(
                workloads.LEGS[leg].requests * workloads.OUTPUT_TOKENS
                / rate[*item[:2], leg] + OVERHEAD_SECONDS
                for leg in item[2] if (*item[:2], leg) in rate)
        return costs

    def measure_all(self):
        items = list(self.items())
        print(f"seed {self.seed}, results in {self.path}", flush=True)
        for repetition in range(1, self.args.repetitions + 1):
            chosen = items
            if repetition > 1:
                left = self.args.repetitions - repetition + 1
                counts = schedule.fit(self.costs(items), left,
                                      self.seconds_left())
                chosen = [item for item in items if counts[item] > 0]
                for item in items:
                    if counts[item] == 0:
                        print(f"{repetition}  {item[0]} {item[1]} "
                              f"{'+'.join(item[2])}: left out, no time")
            # Forth and back, so that a drift falls on all alike.
            for item in chosen if repetition % 2 else reversed(chosen):
                self.measure(item, repetition)


def main():
    args = parse()
    # Or the engines, in sessions of their own, would outlive this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run(args)
    with contextlib.closing(run.loaded):
        if not args.report:
            run.measure_all()
    paths = report.write(run.lines, args.out)
    for path in paths:
        print(path)
    print(report.summary(run.lines))


if __name__ == "__main__":
    main()
