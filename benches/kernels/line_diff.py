"""Comparing two lists of lines."""

import difflib
import sys

ROUNDS = 440


def work():
    a = ["line %d" % (i * 7 % 60) for i in range(120)]
    b = ["line %d" % (i * 5 % 60) for i in range(120)]
    return len(list(difflib.unified_diff(a, b)))


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
