"""
Over memif a packet costs what the cores that hand it on are apart, and a hypervisor moves them about: to cores that
share a cache, that do not, or to two threads of one core. How long a cache line takes there and back is another
figure on each processor, so nothing is near or far by a number: what is compared has been measured at one distance.
"""

WITHIN = 1.5  # times as long; one place's own differ by a quarter, two places' by twice


def alike(*distances_ns):
    return max(distances_ns) <= WITHIN * min(distances_ns)


def usual(distances_ns):
    """The one that most are like, the nearest of those; None of none."""
    return max(sorted(distances_ns), key=lambda one: sum(alike(one, other) for other in distances_ns),
               default=None)


def known(counts):
    """The distances of what was counted; there is none where the cores were moved meanwhile."""
    return [counted["distance_ns"] for counted in counts if counted and counted["distance_ns"]]


def like_with_like(samples, preferred=None):
    """
    Rates by subject, of what these counted round by round (or None). Only rounds count in which all subjects
    had one distance: the preferred one, or where none had it, that of most of these rounds.
    """
    rounds = [known(together) if len(known(together)) == len(samples) else [] for together in zip(*samples.values())]
    rounds = [distances if distances and alike(*distances) else [] for distances in rounds]
    if not preferred or not any(distances and alike(preferred, *distances) for distances in rounds):
        preferred = usual([min(distances) for distances in rounds if distances])
    chosen = [distances and alike(preferred, *distances) for distances in rounds]
    return {name: [counted["mpps"] if ok else None for counted, ok in zip(counts, chosen)]
            for name, counts in samples.items()}
