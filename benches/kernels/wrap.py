"""Wrapping text and filling templates."""

import string
import sys
import textwrap

ROUNDS = 84

TEXT = "lorem ipsum dolor sit amet consectetur " * 60


def work():
    total = 0
    for width in (20, 40, 72):
        total += len(textwrap.fill(TEXT, width))
    for i in range(300):
        total += len(string.Template("hi $name you owe $n").substitute(name=i, n=i * 2))
    return total


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
