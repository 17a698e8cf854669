"""Which measurements fit into the time that is left."""


def fit(costs, repetitions, seconds_left):
    """costs: {key: seconds of one}; every key is wanted `repetitions` more
    times. -> {key: how many}, the costliest given up first and one by one, so
    that cheap ones keep all their repetitions."""
    counts = dict.fromkeys(costs, repetitions)
    total = sum(costs.values()) * repetitions
    for wanted in range(repetitions, 0, -1):
        for key in sorted(costs, key=costs.get, reverse=True):
            if total <= seconds_left:
                return counts
            if counts[key] == wanted:
                counts[key] -= 1
                total -= costs[key]
    return counts
