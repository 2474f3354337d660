"""Permutations and combinations."""

import itertools
import sys

ROUNDS = 58


def work():
    n = 0
    for p in itertools.permutations(range(7)):
        if p[0] < p[-1] and sum(p[i] * i for i in range(7)) % 3 == 0:
            n += 1
    return n + sum(1 for c in itertools.combinations(range(14), 5) if sum(c) & 1)


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
