"""A dictionary with text keys."""

import sys

ROUNDS = 7


def work():
    d = {}
    for i in range(60000):
        d["k%d" % (i % 5000)] = d.get("k%d" % (i % 5000), 0) + i
    return sum(d.values())


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
