"""SHA-256 of large blocks."""

import hashlib
import sys

ROUNDS = 410


def work():
    h = hashlib.sha256()
    for _ in range(40):
        h.update(b"x" * 16384)
    return h.hexdigest()


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
