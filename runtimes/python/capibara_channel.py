"""Messages to the host and its answers: `call` never blocks, `wait` is the only one that may."""

import json
from asyncio import sandbox_events

from _capibara_boot import host_call, host_read, host_wait

_waiting = sandbox_events.host_answers  # what to do with the answer of a call, by the call's number
_arrived = {}  # answers nobody has asked for yet, by the call's number

_encode = json.JSONEncoder(allow_nan=False).encode
_decode = json.JSONDecoder().decode

_REFUSED = {
    -1: "the message is larger than the host takes",
    -2: "too many calls are waiting for their answers",
    -3: "the message is not understood",
    -4: "this run takes no messages",
}


def send(message):
    """Sends a message; returns the number of the call."""
    number = host_call(_encode(message).encode())
    if number < 0:
        raise RuntimeError(_REFUSED.get(number, "the message was refused"))
    return number


def receive(timeout=None):
    """Waits for any answer, at most `timeout` seconds, and hands it on. Returns whether there was one."""
    milliseconds = -1 if timeout is None else min(-int(timeout * -1000 // 1), 2**31 - 1)
    number = host_wait(milliseconds)
    if number <= 0:
        return False
    answer = _decode(host_read(number).decode())
    take = _waiting.pop(number, None)
    if take is None:
        _arrived[number] = answer
    else:
        take(answer)
    return True


def ask(message):
    """Sends a message and waits for its answer."""
    number = send(message)
    while number not in _arrived:
        if not receive():
            raise RuntimeError("the host does not answer")
    return _arrived.pop(number)


def ask_later(message, take):
    """Sends a message; `take` is called with its answer while an event loop waits. Returns the number of the call."""
    number = send(message)
    _waiting[number] = take
    return number


sandbox_events.receive = receive
