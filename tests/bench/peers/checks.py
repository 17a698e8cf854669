"""Is a peer's answer what was asked for? make_probes.py made the probes."""

# Share of the probes that must be answered as Transformers + PEFT does in
# fp32. Chance and a forgotten adapter give about 0; bf16 and quantised
# activations move close calls.
NEEDED = 0.5


def probes_for(probes, leg):
    """[(prompt, adapter or None, first token)] of `leg`, from a shape's
    probes: on the base, on its one adapter, or each on its own, mixed."""
    if leg.adapters == 1:
        return [(one["prompt"], 0, one["adapter"]) for one in probes["first"]]
    if leg.adapters:
        return [(one["prompt"], i, one["adapter"])
                for i, one in enumerate(probes["each"][:leg.adapters])]
    return [(one["prompt"], None, one["base"]) for one in probes["each"]]


def lengths(answers, requests, output):
    """Empty where every answer has as many tokens as asked for."""
    if len(answers) != len(requests):
        return f"{len(answers)} answers to {len(requests)} requests"
    for i, answer in enumerate(answers):
        if answer is None or len(answer) != output:
            count = 0 if answer is None else len(answer)
            return f"request {i} has {count} tokens instead of {output}"
    return ""


def probe(run, probes, leg):
    """Asks `run` the probes as `leg` would ask. -> (share of right answers,
    complaint or "")."""
    asked = probes_for(probes, leg)
    requests = [(prompt, adapter) for prompt, adapter, _ in asked]
    _, answers = run(requests, leg.in_flight, 1)
    wrong = lengths(answers, requests, 1)
    if wrong:
        return 0.0, wrong
    right = sum(answer[0] == token for answer, (_, _, token)
                in zip(answers, asked)) / len(asked)
    if right < NEEDED:
        return right, (f"only {right:.0%} of the probes are answered as by "
                       "Transformers + PEFT")
    return right, ""
