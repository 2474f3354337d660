"""Writing and reading JSON."""

import json
import sys

ROUNDS = 14

DATA = [{"id": i, "name": "n%d" % i, "tags": ["a", "b", "c"], "v": i * 1.5, "ok": i % 2 == 0} for i in range(300)]


def work():
    for _ in range(15):
        text = json.dumps(DATA)
        assert json.loads(text) == DATA
    return len(text)


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
