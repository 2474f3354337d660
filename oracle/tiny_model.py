"""Makes a model file of a few hundred KB for llama.cpp: Llama's shape, random weights, one token for each byte.

`tiny_model.py FILE WINDOW` is run in the Python of `environment.py`. Its text is noise, and a grammar decides what a server says.
"""

import sys

import gguf
import numpy

WIDTH, INNER, LAYERS, HEADS = 64, 128, 2, 4
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"


def make(path: str, window: int) -> None:
    """Writes the file; the same bytes each time."""
    noise = numpy.random.default_rng(8)
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(window)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(kind) for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)

    def random(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", noise.normal(0.0, 0.05, shape).astype(numpy.float32))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", numpy.ones(WIDTH, numpy.float32))

    random("token_embd", len(tokens), WIDTH)
    random("output", len(tokens), WIDTH)
    ones("output_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm")
        ones(f"{block}.ffn_norm")
        for part in ("q", "k", "v", "output"):
            random(f"{block}.attn_{part}", WIDTH, WIDTH)
        random(f"{block}.ffn_gate", INNER, WIDTH)
        random(f"{block}.ffn_up", INNER, WIDTH)
        random(f"{block}.ffn_down", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]))
