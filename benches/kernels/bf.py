"""An interpreter of a small language."""

import sys

ROUNDS = 120

PROGRAM = "++++++++[>++++[>++>+++>+++>+<<<<-]>+>+>->>+[<]<-]>>.>---.+++++++..+++."


def work():
    jumps = {}
    stack = []
    for i, ch in enumerate(PROGRAM):
        if ch == "[":
            stack.append(i)
        elif ch == "]":
            j = stack.pop()
            jumps[i] = j
            jumps[j] = i
    for _ in range(12):
        tape = [0] * 30
        at = i = 0
        out = ""
        while i < len(PROGRAM):
            ch = PROGRAM[i]
            if ch == ">":
                at += 1
            elif ch == "<":
                at -= 1
            elif ch == "+":
                tape[at] = (tape[at] + 1) & 255
            elif ch == "-":
                tape[at] = (tape[at] - 1) & 255
            elif ch == ".":
                out += chr(tape[at])
            elif ch == "[":
                if not tape[at]:
                    i = jumps[i]
            elif tape[at]:
                i = jumps[i]
            i += 1
    return out


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)
