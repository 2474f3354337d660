"""Dates to text and back."""

import datetime
import sys

ROUNDS = 16


def work():
    start = datetime.datetime(2024, 1, 1)
    total = 0
    for i in range(4000):
        text = (start + datetime.timedelta(minutes=i)).isoformat()
        total += len(datetime.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M"))
    return total


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
