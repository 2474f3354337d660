"""Two small clients on OpenAI's library, whose grades are known: see `verdict.py --self-test`.

`client.py BASE_URL naive` prints whatever text came. `client.py BASE_URL careful` uses a text only if it has a reason to end, and asks
three times at most when a stream breaks.
"""

import sys
import time

import openai


def text_of(client: openai.OpenAI, careful: bool) -> str:
    """The text of one streamed answer."""
    text, finish = "", None
    for chunk in client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Print something."}], stream=True
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    if careful and finish != "stop":
        raise EOFError(f"the stream ended with {finish}")
    return text


def main() -> int:
    """Asks once."""
    base_url, manner = sys.argv[1:]
    client = openai.OpenAI(base_url=base_url, api_key="key-of-nobody", timeout=20.0)
    careful = manner == "careful"
    for attempt in range(3 if careful else 1):
        time.sleep(0.2 * attempt * attempt)
        try:
            print(text_of(client, careful))
            return 0
        except openai.APIStatusError as error:
            # The library has tried again where that helps.
            print(f"error: {error}", file=sys.stderr)
            return 1
        except (openai.APIError, EOFError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
