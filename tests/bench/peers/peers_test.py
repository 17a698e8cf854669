"""The logic of the comparison on stored results; no peer is needed."""

import json
import pathlib
import re
import tempfile
import unittest
import xml.etree.ElementTree

import checks
import peers
import report
import schedule
import workloads

HERE = pathlib.Path(__file__).resolve().parent
HEADER = {"header": {
    "seed": 7, "commit": "abc", "date": "2026-11-24", "machine": {
        "cpu": "AMD EPYC", "family": 26, "model": 2, "cores": 2,
        "memory_gib": 24, "instruction_sets": ["avx512_bf16"]}}}


def line(peer, leg, rate, repetition=1, kind="bf16", **more):
    rated = {} if rate is None else {"tokens_per_s": rate}
    return {"peer": peer, "type": kind, "leg": leg, "repetition": repetition,
            "wall_s": 1, "version": f"{peer} 1", **rated, **more}


def results():
    lines = [HEADER]
    for repetition, rate in ((1, 900.0), (2, 1000.0), (3, 990.0)):
        lines.append(line("descant", "W-base", rate, repetition))
        lines.append(line("openvino", "W-base", rate / 2, repetition))
    lines.append(line("descant", "W-mixed", 300.0))
    lines.append(line("openvino", "W-mixed", 90.0))
    lines.append(line("llamacpp", "W-mixed", 100.0))
    lines.append(line("vllm", "W-mixed", None, invalid="INVALID: 3 tokens"))
    return lines


class Report(unittest.TestCase):
    def bar(self, lines, name):
        return next(b for b in report.bars(lines) if b["name"] == name)

    def test_median_of_repetitions_against_best_peer(self):
        base = self.bar(results(), "W-base bf16 / best bf16 peer")
        self.assertEqual((base["own"], base["other"]), (990.0, 495.0))
        self.assertEqual((base["ratio"], base["reached"]), (2.0, True))
        mixed = self.bar(results(), "W-mixed bf16 / best bf16 peer")
        self.assertEqual(mixed["peer"], "llamacpp")
        self.assertEqual((mixed["ratio"], mixed["reached"]), (3.0, False))

    def test_what_was_not_measured_is_not_reached(self):
        int4 = self.bar(results(), "W-mixed int4 / best int4 peer")
        self.assertIsNone(int4["ratio"])
        self.assertIsNone(int4["reached"])

    def test_bars_of_the_machine(self):
        lines = results()
        name = "W-base bf16 / best bf16 peer"
        self.assertEqual(self.bar(lines, name)["need"], 1.08)
        amx = json.loads(json.dumps(lines))
        amx[0]["header"]["machine"]["instruction_sets"].append("amx_bf16")
        self.assertEqual(self.bar(amx, name)["need"], 1.4)

    def test_table_tells_fewer_repetitions_and_invalid(self):
        text = report.markdown(results())
        self.assertIn("medians of 3 interleaved repetitions", text)
        self.assertIn("Descant bf16 W-mixed (1)", text)
        self.assertIn("| **Descant** | bf16 |", text)
        self.assertIn("INVALID: 3 tokens", text)
        row = next(r for r in text.splitlines() if r.startswith("| vLLM"))
        self.assertEqual(row.count("INVALID"), 1)
        self.assertIn("**not reached**", text)

    def test_a_repeated_measurement_replaces_an_invalid_one(self):
        lines = results() + [line("vllm", "W-mixed", 50.0)]
        self.assertEqual(report.invalid(lines), {})

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = report.write(results(), pathlib.Path(folder))
            md, svg, as_json = (path.read_text() for path in paths)
            self.assertTrue(md.startswith("Output tokens"))
            xml.etree.ElementTree.fromstring(svg)
            self.assertIn("OpenVINO GenAI bf16", svg)
            stored = json.loads(as_json)
        self.assertEqual(stored["seed"], 7)
        runs = [r["runs"] for r in stored["results"]
                if (r["peer"], r["leg"]) == ("descant", "W-base")]
        self.assertEqual(runs, [[900.0, 1000.0, 990.0]])


class Loads(unittest.TestCase):
    def test_legs_are_those_of_descant_bench(self):
        source = (HERE.parents[2] / "server/cli/bench/workload.cc").read_text()
        header = (HERE.parents[2] / "server/cli/bench/workload.h").read_text()
        for name in workloads.LEGS:
            self.assertIn(f'"{name}"', source)
        number = lambda name: int(re.search(rf"{name} = (\d+)",
                                            header).group(1))
        self.assertEqual(number("kPromptTokens"), workloads.PROMPT_TOKENS)
        self.assertEqual(number("kOutputTokens"), workloads.OUTPUT_TOKENS)

    def test_requests_are_fresh_and_repeatable(self):
        leg = workloads.LEGS["W-mixed"]
        once = workloads.requests(leg, 1)
        self.assertEqual(once, workloads.requests(leg, 1))
        self.assertNotEqual(once, workloads.requests(leg, 2))
        self.assertEqual([a for _, a in once], [i % 32 for i in range(64)])
        self.assertEqual({len(ids) for ids, _ in once}, {128})

    def test_every_leg_has_an_engine_of_every_peer(self):
        for name, peer in peers.PEERS.items():
            if name != "descant":
                self.assertEqual(set(peer.engines), set(workloads.LEGS))


class Schedule(unittest.TestCase):
    COSTS = {"slow": 60.0, "middle": 20.0, "quick": 1.0}

    def test_all_when_there_is_time(self):
        self.assertEqual(schedule.fit(self.COSTS, 2, 200),
                         {"slow": 2, "middle": 2, "quick": 2})

    def test_the_slowest_lose_first_and_one_by_one(self):
        self.assertEqual(schedule.fit(self.COSTS, 2, 110),
                         {"slow": 1, "middle": 2, "quick": 2})
        self.assertEqual(schedule.fit(self.COSTS, 2, 85),
                         {"slow": 1, "middle": 1, "quick": 2})
        self.assertEqual(schedule.fit(self.COSTS, 2, 30),
                         {"slow": 0, "middle": 1, "quick": 1})

    def test_nothing_when_the_time_is_up(self):
        self.assertEqual(set(schedule.fit(self.COSTS, 2, -5).values()), {0})


class Checks(unittest.TestCase):
    PROBES = {
        "each": [{"prompt": [i], "base": 1, "adapter": 100 + i}
                 for i in range(32)],
        "first": [{"prompt": [i], "base": 1, "adapter": 100}
                  for i in range(8)]}

    def ask(self, answer, leg="W-mixed"):
        run = lambda requests, in_flight, output: (1.0, [
            [answer(adapter)] * output for _, adapter in requests])
        return checks.probe(run, self.PROBES, workloads.LEGS[leg])

    def test_right_adapters(self):
        self.assertEqual(self.ask(lambda a: 100 + a), (1.0, ""))
        self.assertEqual(self.ask(lambda a: 100 + a, "W-single/adapter"),
                         (1.0, ""))
        self.assertEqual(self.ask(lambda a: 1, "W-single/base"), (1.0, ""))

    def test_an_engine_that_forgets_the_adapter(self):
        self.assertIn("0%", self.ask(lambda a: 1)[1])
        self.assertIn("0%", self.ask(lambda a: 1, "W-single/adapter")[1])

    def test_an_engine_that_uses_the_first_for_all(self):
        self.assertNotEqual(self.ask(lambda a: 100)[1], "")

    def test_base_requests_that_get_an_adapter(self):
        self.assertNotEqual(self.ask(lambda a: 100, "W-base")[1], "")

    def test_too_few_tokens(self):
        self.assertIn("1 tokens instead of 2",
                      checks.lengths([[5]], [([1], None)], 2))


if __name__ == "__main__":
    unittest.main()
