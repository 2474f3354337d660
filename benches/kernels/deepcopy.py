"""Copies of nested containers."""

import copy
import sys

ROUNDS = 200

DATA = {"a": [{"x": i, "y": [i, str(i)]} for i in range(150)]}


def work():
    for _ in range(2):
        copied = copy.deepcopy(DATA)
    return len(copied["a"]), sum(one["x"] for one in copied["a"])


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
