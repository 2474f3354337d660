"""Formatting and changing text."""

import sys

ROUNDS = 19


def work():
    parts = []
    for i in range(20000):
        parts.append(f"{i:05d}-{i*i:x}".upper().replace("A", "b"))
    return len("".join(parts).split("b"))


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
