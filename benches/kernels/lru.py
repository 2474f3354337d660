"""A cache of results, and a class with special methods."""

import functools
import sys

ROUNDS = 23


class Store:
    def __init__(self):
        self._d = {}

    def __getitem__(self, k):
        return self._d[k]

    def __setitem__(self, k, v):
        self._d[k] = v

    def __contains__(self, k):
        return k in self._d


def work():
    @functools.lru_cache(maxsize=64)
    def product(a, b):
        return a * b

    store = Store()
    total = 0
    for i in range(15000):
        total += product(i % 90, i % 7)
        if i % 50 in store:
            store[i % 50] += 1
        else:
            store[i % 50] = 0
    return total, store[49]


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
