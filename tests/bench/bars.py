"""Bars that the CPU backend is held to against itself, from the JSON of
`descant bench` and step_bench: prints bar, figure, met or not.

    bars.py [--slack X] BENCH.json ... -- STEP.json ...

--slack divides every lower bar and multiplies every upper one (2 for a smoke
run on a busy machine). Exit code 1 when a bar is not met. A file that lacks a
bar's figures leaves the bar out.
"""

import json
import statistics
import sys


def median(values):
    return statistics.median(values) if values else None


def ratio(legs, name, base):
    """Median of the runs' ratios, pair by pair, and its 95 % interval."""
    if name not in legs or base not in legs:
        return None, ""
    pairs = list(zip(legs[name]["runs"], legs[base]["runs"]))
    ratios = sorted(a / b for a, b in pairs)
    return median(ratios), interval(ratios)


def interval(values):
    # As server/cli/bench/statistics.cc: order statistics of the sign test.
    count, below, term, k = len(values), 0.0, 0.5 ** len(values), 0
    while 2 * (below + term) <= 0.05:
        below += term
        term *= (count - k) / (k + 1)
        k += 1
    return f" [{values[k - 1]:.3f}, {values[-k]:.3f}]" if k else ""


def serving_bars(report):
    legs = {leg["name"]: leg for leg in report["legs"]}
    for name, base, bar in [
        ("W-mixed", "W-base", 0.92),
        ("W-wide", "W-base", 0.85),
        ("W-unused/loaded", "W-unused/none", 0.99),
        ("W-scale/1000", "W-mixed", 0.9),
    ]:
        figure, note = ratio(legs, name, base)
        if figure is not None:
            yield f"{name} / {base}", figure, ">=", bar, note
    busy = legs.get("W-open/80%")
    if busy:
        itl = busy["itl_ms"]
        yield (
            "W-open at 80 %, --target-itl-ms=40: ITL p99 / p50",
            itl["p99"] / itl["p50"],
            "<=",
            4,
            f" ({itl['p99']:.1f} / {itl['p50']:.1f} ms)",
        )
    for server in report["servers"]:
        if "ready_s" in server:
            yield "ready, s", server["ready_s"], "<=", 2, " " + server["flags"]


def memory_bars(reports):
    """What each further registered adapter costs: between two servers, since
    any upload leaves some free memory with the allocator."""
    grown = {}
    for server in (one for report in reports for one in report["servers"]):
        if "bytes_registered" in server:
            grown[server["registered"]] = (
                server["bytes_registered"] - server["bytes_at_start"])
    few = max((n for n in grown if 1000 <= n < 10000), default=None)
    many = max(grown, default=0)
    if few is not None and many >= 10000:
        yield (
            "KiB a registered adapter",
            (grown[many] - grown[few]) / 1024 / (many - few),
            "<=",
            1,
            f" (from {few} to {many})",
        )


def step_bars(report):
    weights = report.get("weights", "bf16")
    steps = [step for step in report["steps"] if step["table"] == "base"]
    for step in steps:
        if step["kind"] == "decode" and step["rows"] <= 16:
            # A step whose operations at peak take longer than its bytes can't
            # be held to the bytes (16 rows on a machine without AMX).
            limit = "bytes" if step["bound_ms"] <= step["bytes_ms"] else "peak"
            yield (
                f"{weights} decode step of {step['rows']} rows / ({limit})",
                step["best_ms"] / step["bound_ms"],
                "<=",
                1.3,
                f" ({step['best_ms']:.2f} ms; bytes {step['bytes_ms']:.2f} ms"
                f" at {step['read_gb_per_s']:.0f} GB/s)",
            )
    amx = "amx" in report["runner"]
    for step in steps:
        if step["kind"] == "prefill" and step["rows"] == 512:
            if step["sequences"] == 1:
                yield (
                    f"{weights} prefill of 512 tokens, rows/s",
                    step["rows_per_s"],
                    ">=",
                    5000 if amx else 900,
                    "",
                )


def main():
    arguments = sys.argv[1:]
    slack = 1.0
    if arguments[:1] == ["--slack"]:
        slack = float(arguments[1])
        arguments = arguments[2:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    reports = []
    for path in arguments[:cut]:
        with open(path) as file:
            reports.append(json.load(file))
    bars = [bar for report in reports for bar in serving_bars(report)]
    bars += memory_bars(reports)
    for path in arguments[cut + 1 :]:
        with open(path) as file:
            bars += step_bars(json.load(file))
    if not bars:
        sys.exit("bars: no figures")
    missed = 0
    print("| bar | figure | must be | met |\n| --- | ---: | ---: | --- |")
    for name, figure, relation, bar, note in bars:
        limit = bar / slack if relation == ">=" else bar * slack
        met = figure >= limit if relation == ">=" else figure <= limit
        missed += not met
        print(
            f"| {name} | {figure:.3f}{note} | {relation} {limit:g} |"
            f" {'yes' if met else 'NO'} |"
        )
    print(f"\n{len(bars) - missed} of {len(bars)} bars met")
    sys.exit(1 if missed else 0)


main()
