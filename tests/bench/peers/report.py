"""Results as a table, JSON and a chart. Pure: lines in, text out."""

import json
import statistics

import chart
import machine
import peers
import workloads

AMX, AVX512 = "AMX", "AVX-512 only"

# Name; type; leg; the peers' type it is held against; at least this multiple of
# the best of them, with AMX and without.
BARS = (
    ("W-mixed bf16 / best bf16 peer", "bf16", "W-mixed", 11, 3.5),
    ("W-base bf16 / best bf16 peer", "bf16", "W-base", 1.4, 1.08),
    ("W-eight base bf16 / best bf16 peer", "bf16", "W-eight/base", 1.3, 1.1),
    ("W-eight, 8 adapters, bf16 / best bf16 peer", "bf16", "W-eight/adapters",
     4, 2.5),
    ("W-single base bf16 / best bf16 peer", "bf16", "W-single/base", 1.3, 1.4),
    ("W-base int8 / best int8 peer", "int8", "W-base", 1.6, 1.5),
    ("W-single base int8 / best int8 peer", "int8", "W-single/base", 1.8, 1.8),
    ("W-mixed int8 / best int8 peer", "int8", "W-mixed", 13, 4),
    ("W-single base int4 / best int4 peer", "int4", "W-single/base", 1.5, 1.4),
    ("W-mixed int4 / best int4 peer", "int4", "W-mixed", 10, 3),
)
# Descant against itself, bf16.
OWN_BARS = (
    ("W-mixed / W-base, own, bf16", "W-mixed", "W-base", 0.92, 0.92),
    ("W-wide / W-base, own, bf16", "W-wide", "W-base", 0.58, 0.85),
)


def medians(lines):
    """{(peer, type, leg): (median tokens a second, repetitions)}."""
    runs = {}
    for line in lines:
        if line.get("tokens_per_s"):
            key = line["peer"], line["type"], line["leg"]
            runs.setdefault(key, {})[line["repetition"]] = line["tokens_per_s"]
    return {key: (statistics.median(values.values()), len(values))
            for key, values in runs.items()}


def invalid(lines):
    """{(peer, type, leg): why} of what has no valid result at all."""
    good = medians(lines)
    bad = {}
    for line in lines:
        if "invalid" in line:
            key = line["peer"], line["type"], line["leg"]
            if key not in good:
                bad[key] = line["invalid"]
    return bad


def instruction_class(header):
    sets = header["machine"]["instruction_sets"]
    return AMX if "amx_bf16" in sets else AVX512


def bars(lines):
    """[{name, ratio, peer, need, reached}]; ratio None where a part is
    missing."""
    rates = {key: value for key, (value, _) in medians(lines).items()}
    amx = instruction_class(lines[0]["header"]) == AMX
    out = []
    for name, kind, leg, with_amx, without in BARS:
        own = rates.get(("descant", kind, leg))
        best = max(((rates[p, kind, leg], p) for p in peers.PEERS
                    if p != "descant" and (p, kind, leg) in rates),
                   default=(None, None))
        out.append(bar(name, own, best[0], best[1],
                       with_amx if amx else without))
    for name, leg, base, with_amx, without in OWN_BARS:
        out.append(bar(name, rates.get(("descant", "bf16", leg)),
                       rates.get(("descant", "bf16", base)), "descant",
                       with_amx if amx else without))
    return out


def bar(name, own, other, peer, need):
    ratio = own / other if own and other else None
    return {"name": name, "own": own, "other": other, "peer": peer,
            "need": need, "ratio": ratio and round(ratio, 3),
            "reached": None if ratio is None else ratio >= need}


def cell(good, bad, key):
    if key in good:
        return f"{good[key][0]:.0f}"
    return "INVALID" if key in bad else "-"


def rows(lines):
    """(peer, type) in the table's order: by type, then as in PEERS."""
    seen = {(line["peer"], line["type"]) for line in lines if "leg" in line}
    return [(name, kind) for kind in peers.TYPES for name in peers.PEERS
            if (name, kind) in seen]


def fewer(lines):
    """What has fewer repetitions than most, as a sentence; or empty."""
    good = medians(lines)
    most = max((n for _, n in good.values()), default=0)
    less = [f"{peers.PEERS[p].title} {kind} {leg} ({n})"
            for (p, kind, leg), (_, n) in good.items() if n < most]
    if not less:
        return ""
    return f" Fewer repetitions, for time: {', '.join(sorted(less))}."


def spread(lines):
    """The widest gap between repetitions, over the median, and where."""
    runs = {}
    for line in lines:
        if line.get("tokens_per_s"):
            key = line["peer"], line["type"], line["leg"]
            runs.setdefault(key, []).append(line["tokens_per_s"])
    return max((((max(v) - min(v)) / statistics.median(v), key)
                for key, v in runs.items()), default=(0.0, None))


def markdown(lines):
    header = lines[0]["header"]
    good, bad = medians(lines), invalid(lines)
    legs = list(workloads.LEGS)
    m = header["machine"]
    most = max((n for _, n in good.values()), default=0)
    text = [
        f"Output tokens a second, prefill included; medians of {most} "
        f"interleaved repetitions, {header['date']}, descant commit "
        f"{header['commit']}, {m['cores']} cores of {m['cpu']} (family "
        f"{m['family']}, model {m['model']}; "
        f"{', '.join(m['instruction_sets'])}), {m['memory_gib']} GiB, seed "
        f"{header['seed']}.{fewer(lines)}", "",
        "| engine | weights | "
        + " | ".join(name.replace("/", " ") for name in legs) + " |",
        "| --- | --- |" + " ---: |" * len(legs)]
    for name, kind in rows(lines):
        title = peers.PEERS[name].title
        bold = "**" if name == "descant" else ""
        text.append(
            f"| {bold}{title}{bold} | {kind} | "
            + " | ".join(bold + cell(good, bad, (name, kind, leg)) + bold
                         for leg in legs) + " |")
    text += ["", "| ratio | Descant | best peer | ratio | bar | |",
             "| --- | ---: | ---: | ---: | ---: | --- |"]
    for item in bars(lines):
        if item["ratio"] is None:
            text.append(f"| {item['name']} | - | - | - | {item['need']} "
                        "| not measured |")
            continue
        peer = peers.PEERS[item["peer"]].title
        text.append(
            f"| {item['name']} | {item['own']:.0f} | {item['other']:.0f} "
            f"({peer}) | {item['ratio']:.2f} | {item['need']} | "
            + ("reached" if item["reached"] else "**not reached**") + " |")
    text += ["", "Engines: " + "; ".join(
        f"{peers.PEERS[name].title}: {version} ({peers.PEERS[name].note})"
        for name, version in versions(lines).items()) + "."]
    for (name, kind, leg), why in sorted(bad.items()):
        text.append(f"\n{peers.PEERS[name].title} {kind} {leg}: {why}.")
    return "\n".join(text) + "\n"


def versions(lines):
    return {line["peer"]: line["version"] for line in lines
            if "version" in line}


def as_json(lines):
    header = lines[0]["header"]
    runs = {}
    for line in lines:
        if "leg" in line:
            key = line["peer"], line["type"], line["leg"]
            one = runs.setdefault(key, {"runs": {}})
            if line.get("tokens_per_s"):
                one["runs"][line["repetition"]] = line["tokens_per_s"]
            if "probes" in line:
                one["probes_right"] = line["probes"]
            if "invalid" in line:
                one["invalid"] = line["invalid"]
    results = []
    for (name, kind, leg), one in runs.items():
        values = list(one.pop("runs").values())
        results.append({
            "peer": name, "weights": kind, "leg": leg, "runs": values,
            "output_tokens_per_s": statistics.median(values) if values
            else None, **one})
    return {**header, "versions": versions(lines), "results": results,
            "bars": bars(lines)}


def svg(lines):
    good = medians(lines)
    groups = []
    for leg in workloads.LEGS:
        group = [(f"{peers.PEERS[name].title} {kind}", good[name, kind, leg][0],
                  name == "descant")
                 for name, kind in rows(lines) if (name, kind, leg) in good]
        if group:
            groups.append((leg.replace("/", " "), group))
    return chart.render("Output tokens a second", groups)


def write(lines, folder):
    folder.mkdir(parents=True, exist_ok=True)
    stem = machine.name(lines[0]["header"]["machine"])
    texts = {"md": markdown(lines), "svg": svg(lines),
             "json": json.dumps(as_json(lines), indent=1) + "\n"}
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{stem}.{suffix}")
        paths[-1].write_text(text)
    return paths


def summary(lines):
    widest, where = spread(lines)
    reached = sum(item["reached"] is True for item in bars(lines))
    return (markdown(lines) + f"\n{reached} of {len(BARS) + len(OWN_BARS)} "
            "bars reached; widest spread of a leg between repetitions "
            f"{widest:.1%} ({where})")
