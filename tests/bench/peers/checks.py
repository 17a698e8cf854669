"""Is a peer's answer what was asked for? make_models.py made the probes."""

# Share of the probes that must be answered as Transformers + PEFT does in
# fp32. Chance and a forgotten adapter give about 0; quantised weights move
# close calls.
NEEDED = {"bf16": 0.5, "int8": 0.5, "int4": 0.3}
FEW = 4  # of fewer, it's enough that they aren't answered as by the base


def lengths(answers, requests, output):
    """Empty where every answer has as many tokens as asked for."""
    if len(answers) != len(requests):
        return f"{len(answers)} answers to {len(requests)} requests"
    for i, answer in enumerate(answers):
        if answer is None or len(answer) != output:
            count = 0 if answer is None else len(answer)
            return f"request {i} has {count} tokens instead of {output}"
    return ""


def share(probes, answers, key):
    hits = sum(answer[0] == probe[key]
               for probe, answer in zip(probes, answers))
    return hits / len(probes)


def probe(run, probes, kind, leg):
    """Asks `run` the probes as `leg` would: on the base, or each on its
    adapter, mixed. -> (share of right answers, complaint or "")."""
    probes = probes[:leg.adapters] if leg.adapters else probes
    requests = [(item["prompt"], i if leg.adapters else None)
                for i, item in enumerate(probes)]
    _, answers = run(requests, leg.in_flight, 1)
    wrong = lengths(answers, requests, 1)
    if wrong:
        return 0.0, wrong
    right = share(probes, answers, "adapter" if leg.adapters else "base")
    if len(probes) < FEW:  # one close call must not decide
        right = 1 - share(probes, answers, "base")
    if right < NEEDED[kind]:
        return right, (f"only {right:.0%} of the probes are answered as by "
                       "Transformers + PEFT")
    return right, ""
