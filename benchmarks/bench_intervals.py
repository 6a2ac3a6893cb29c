"""Do the intervals of a report hold what they promise, and how often is a cut-off wrong? By simulation.

    python benchmarks/bench_intervals.py [--runs 2000]

Coverage: worlds with a known truth are drawn again and again; an interval of 95 % should hold the truth in 95 of 100.
Rates and revenue, from a balanced experiment to a control group of one in twenty, baskets from tame (sigma 0.5 of their
logarithm) to wild (1.5), and resampling from one data set of 64,000 people in the shape of a public e-mail experiment.
Cut-offs: four tiers, of which two bring money and two cost some; wrong is any tier called the other way round.
The figures are quoted in docs/guides/reading-a-report.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np

from sendwave.rules.breakeven import Judged, Prices, Says, cut
from sendwave.rules.intervals import Interval
from sendwave.rules.lift import SCALE, Arm, Lift, rate_lift, revenue_lift

LEVEL = 0.95
SPLITS = ((50_000, 50_000), (95_000, 5_000), (19_000, 1_000), (3_000, 27_000))


def side(draw: np.random.Generator, people: int, rate: float, sigma: float, basket: float = 1.0) -> Arm:
    buyers = draw.binomial(people, rate)
    amounts = np.rint(40 * basket * np.exp(sigma * draw.standard_normal(buyers)) * SCALE).astype(np.int64)
    return Arm(people, None, buyers, amounts)


def tell(label: str, misses: Counter[str], runs: int) -> None:
    known = runs - misses["none"]
    held = known - misses["below"] - misses["above"]
    print(
        f"{label:<58} {held / max(known, 1):6.1%} held  {misses['below'] / max(known, 1):5.1%} truth below  "
        f"{misses['above'] / max(known, 1):5.1%} above  {misses['none'] / runs:5.1%} no interval"
    )


def place(found: Interval | None, truth: float) -> str:
    if found is None:
        return "none"
    return "below" if truth < found.low else "above" if truth > found.high else "held"


def coverage(draw: np.random.Generator, runs: int) -> None:
    print(f"\nconversion rate, difference, {LEVEL:.0%}")
    for (given, control), rate in product(SPLITS, (0.001, 0.01, 0.05)):
        misses: Counter[str] = Counter()
        for _ in range(runs):
            pair = (side(draw, given, rate * 1.2, 0.0), side(draw, control, rate, 0.0))
            found = rate_lift([pair], "converted", LEVEL)
            misses[place(None if found is None else found.difference, rate * 0.2)] += 1
        tell(f"{given:>7,} mailed {control:>7,} control, rate {rate:.1%}", misses, runs)
    print(f"\nrevenue per person, difference, {LEVEL:.0%}")
    for (given, control), rate, (sigma, basket) in product(
        SPLITS, (0.01, 0.05), ((0.5, 1.0), (1.0, 1.0), (1.0, 1.3), (1.5, 1.0))
    ):
        truth = 40 * np.exp(sigma**2 / 2) * rate * (1.2 * basket - 1)
        misses = Counter()
        for _ in range(runs):
            found = revenue_lift(
                [(side(draw, given, rate * 1.2, sigma, basket), side(draw, control, rate, sigma))], LEVEL
            )
            misses[place(None if found is None else found.difference, truth)] += 1
        tell(f"{given:>7,} / {control:>7,}, rate {rate:.0%}, sigma {sigma}, basket x {basket}", misses, runs)


def pooled(draw: np.random.Generator, runs: int) -> None:
    """Four strata with other rates and splits, put together."""
    strata = (
        (20_000, 1_000, 0.05, 0.01),
        (40_000, 2_000, 0.03, 0.006),
        (15_000, 15_000, 0.015, 0.003),
        (3_000, 27_000, 0.01, 0.0),
    )
    people = sum(given for given, *_ in strata)
    truths = {"converted": sum(given / people * lift for given, _, _, lift in strata)}
    truths["revenue"] = truths["converted"] * 40 * np.exp(0.5)
    measures: dict[str, Callable[[list[tuple[Arm, Arm]]], Lift | None]] = {
        "converted": lambda pairs: rate_lift(pairs, "converted", LEVEL),
        "revenue": lambda pairs: revenue_lift(pairs, LEVEL),
    }
    misses: dict[str, Counter[str]] = {name: Counter() for name in measures}
    for _ in range(runs):
        pairs = [(side(draw, n, rate + lift, 1.0), side(draw, m, rate, 1.0)) for n, m, rate, lift in strata]
        for name, measure in measures.items():
            found = measure(pairs)
            misses[name][place(None if found is None else found.difference, truths[name])] += 1
    print(f"\nfour strata put together, {LEVEL:.0%}")
    for name, counted in misses.items():
        tell(name, counted, runs)


def resampled(draw: np.random.Generator, runs: int) -> None:
    """People drawn with replacement from one data set, whose own lift is the truth."""
    people, size = 64_000, 64_000 // 12
    arm = draw.integers(0, 3, people)
    bought = draw.random(people) < np.where(arm > 0, 0.011, 0.006)
    spend = np.where(bought, np.rint(np.exp(4.3 + 0.8 * draw.standard_normal(people)) * 100) * 100, 0).astype(np.int64)
    sides = [np.flatnonzero(arm == 1), np.flatnonzero(arm == 0)]
    rates = [bought[one].mean() for one in sides]
    money = [spend[one].mean() / SCALE for one in sides]
    misses: dict[str, Counter[str]] = {"converted": Counter(), "revenue": Counter()}
    for _ in range(runs):
        pair = []
        for one in sides:
            chosen = spend[draw.choice(one, size // 3)]
            pair.append(Arm(len(chosen), None, int((chosen > 0).sum()), chosen[chosen > 0]))
        found = rate_lift([(pair[0], pair[1])], "converted", LEVEL)
        misses["converted"][place(None if found is None else found.difference, rates[0] - rates[1])] += 1
        found = revenue_lift([(pair[0], pair[1])], LEVEL)
        misses["revenue"][place(None if found is None else found.difference, money[0] - money[1])] += 1
    print(f"\nresampled from {people:,} people, a twelfth of them per band, {LEVEL:.0%}")
    for name, counted in misses.items():
        tell(name, counted, runs)


def cutoffs(draw: np.random.Generator, runs: int) -> None:
    print(f"\ncut-offs, all verdicts together {LEVEL:.0%}: two tiers bring, two cost")
    prices = Prices(margin=0.4, unsubscribe=2.0, complaint=10.0)
    truth = {"hot": Says.BRINGS, "warm": Says.BRINGS, "cool": Says.COSTS, "cold": Says.COSTS}
    for scale, share, sigma in product((1, 4, 16), (0.05, 0.5), (0.8, 1.2)):
        said: Counter[str] = Counter()
        for _ in range(runs):
            found = cut(_tiers(draw, 20_000 * scale, share, sigma), prices, LEVEL)
            wrong = [
                one for one in found.verdicts if one.says in (Says.BRINGS, Says.COSTS) and one.says != truth[one.tier]
            ]
            known = sum(one.says == truth[one.tier] for one in found.verdicts)
            said["wrong"] += bool(wrong)
            said["known"] += known
            said["too far"] += found.tier in {"cool", "cold"}
            said["right"] += found.tier == "warm"
        label = f"{20_000 * scale:>8,} people a tier, control {share:.0%}, sigma {sigma}"
        print(
            f"{label:<52} {said['wrong'] / runs:6.2%} any wrong verdict {said['too far'] / runs:6.2%} cut too far "
            f"{said['right'] / runs:6.1%} cut right  {said['known'] / runs / 4:6.1%} of verdicts known"
        )


def _tiers(draw: np.random.Generator, people: int, share: float, sigma: float) -> list[Judged]:
    told = (("hot", 0.03, 0.010, 0.001, 0.0002), ("warm", 0.015, 0.005, 0.002, 0.0004))
    told += (("cool", 0.008, 0.0, 0.004, 0.001), ("cold", 0.004, 0.0, 0.008, 0.003))
    found = []
    for tier, rate, lift, unsubscribe, complaint in told:
        control = round(people * share)
        given = people - control
        pair = (side(draw, given, rate + lift, sigma), side(draw, control, rate, sigma))
        harm = (draw.binomial(given, unsubscribe), draw.binomial(given, complaint))
        found.append(Judged(tier, [pair], given, 0.02 * given, *harm))
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=2_000)
    runs = asked.parse_args().runs
    print(f"{runs:,} runs each; a share of 95 % is then sure to within ± {1.96 * (0.95 * 0.05 / runs) ** 0.5:.1%}")
    for number, part in enumerate((coverage, pooled, resampled, cutoffs)):
        part(np.random.default_rng(number), runs)


if __name__ == "__main__":
    main()
