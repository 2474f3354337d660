"""Regular expressions."""

import re
import sys

ROUNDS = 20

TEXT = " ".join("user%d@example.com some words 2024-01-%02d and %d more" % (i, i % 28 + 1, i) for i in range(400))
MAIL = re.compile(r"(\w+)@(\w+)\.com")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def work():
    total = 0
    for _ in range(6):
        total += len(MAIL.findall(TEXT))
        total += len(DATE.sub("D", TEXT))
        total += len(re.split(r"\s+", TEXT))
    return total


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
