#!/usr/bin/env python3
"""Makes the tiny pair, tiny/base and tiny/chat, from nothing: the tokenizer, then the base model, then the chat model.

    python3 tiny/train.py [OUT_DIR] [base | chat]     (torch, transformers, tokenizers)

OUT_DIR is this directory by default; with base or chat, only that half is made (chat needs OUT_DIR/base).
Everything is drawn from one seed; the numbers that come out still depend a little on the machine and on torch.
"""
import json
import math
import os
import random
import sys
import time

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

import world

HERE = os.path.dirname(os.path.abspath(__file__))
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
ENTRIES = 2040                                  # tokens before the special ones
CONTEXT = 1024
SHAPE = dict(hidden_size=128, intermediate_size=304, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=4)

TEXTS = 60_000                                  # of prose
BASE_STEPS, CHAT_STEPS = 2000, 2000
BATCH = 2048                                    # tokens in a batch
WINDOWS = [128, 256, 512, 1024]                 # lengths of the pieces cut from the stream, drawn for each batch
SLIPS = 0.01                                    # how many tokens of the prose are replaced by any other
OTHERS = 0.1                                    # how much of what the user and the system say is learned too


# ---- tokenizer ------------------------------------------------------------------------------------------------------

def make_tokenizer(rng):
    """Byte-level BPE as Qwen's, trained on this world's text."""
    tokenizer = Tokenizer(models.BPE(dropout=None, unk_token=None, continuing_subword_prefix="", end_of_word_suffix="",
                                     fuse_unk=False, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    byte_level = dict(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(**byte_level)])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)

    text = [world.prose(rng) for _ in range(8000)] + world.phrases() * 50
    # Chinese has no spaces, and a merge could swallow half a sentence: cut it at the names and values of the world first.
    words = {thing.zh for thing in world.THINGS} | {zh for thing in world.THINGS for _, zh in thing.facts.values()}
    for word in sorted(words, key=len, reverse=True):
        text = [line.replace(word, "\n" + word + "\n") for line in text]
    text += [name for thing in world.THINGS for name in (" " + thing.bare, " " + thing.plural, thing.zh)] * 1000     # each one token
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=ENTRIES, max_token_length=16, show_progress=False,
                                                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return tokenizer


# ---- models ---------------------------------------------------------------------------------------------------------

def make_model(tokenizer):
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    config = Qwen2Config(vocab_size=math.ceil((tokenizer.get_vocab_size() + 1) / 64) * 64, max_position_embeddings=CONTEXT,
                         rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
                         bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"], initializer_range=0.04, **SHAPE)
    return Qwen2ForCausalLM(config)


def train(name, model, batches, steps, peak):
    """Muon (Jordan et al. 2024) for the matrices, AdamW for the rest; a short warm-up, then a cosine down to a hundredth.

    batches yields (ids, which of them to learn), both (batch, length).
    """
    matrices = [p for key, p in model.named_parameters() if p.dim() == 2 and "embed" not in key]
    rest = [p for key, p in model.named_parameters() if p.dim() == 1 or "embed" in key]
    optimizers = [torch.optim.Muon(matrices, lr=peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(rest, lr=peak / 2, weight_decay=0.0, betas=(0.9, 0.98), fused=True)]
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    started, loss_sum = time.time(), 0.0
    for step in range(1, steps + 1):
        for group, highest in groups:
            group["lr"] = highest * min(step / 50, 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
        ids, learn = next(batches)
        with torch.autocast("cpu", torch.bfloat16):             # half the time, and the weights end up in bf16 anyway
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1][learn[:, 1:]])  # only where something is learned
        loss = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][learn[:, 1:]])
        loss_sum += loss.item()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 50 == 0 or step == steps:
            print(f"{name}: step {step}/{steps}, loss {loss_sum / ((step - 1) % 50 + 1):.4f}, {(time.time() - started) / 60:.1f} min", flush=True)
            loss_sum = 0.0


def prose_batches(tokenizer, rng):
    """Windows cut at random places from one endless stream of texts. A few tokens are slips of the pen: the model sees
    them, so that something odd in a prompt does not derail it, and does not learn to write them."""
    stream = []
    for _ in range(0, TEXTS, 1000):
        for encoding in tokenizer.encode_batch([world.prose(rng) for _ in range(1000)]):
            stream += encoding.ids
    print(f"prose: {len(stream):,} tokens in {TEXTS:,} texts", flush=True)
    stream = torch.tensor(stream)
    while True:
        length = rng.choice(WINDOWS)
        ids = torch.stack([stream[at:at + length] for at in (rng.randrange(len(stream) - length) for _ in range(BATCH // length))])
        slips = torch.rand(ids.shape) < SLIPS
        yield torch.where(slips, torch.randint(tokenizer.token_to_id("<|endoftext|>"), ids.shape), ids), ~slips


def encode_dialogue(tokenizer, messages, rng):
    """ChatML ids, and which to learn: what the assistant says with the <|im_end|> that ends it, and a tenth of all else."""
    im_start, im_end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    newline = tokenizer.encode("\n").ids
    ids, learn = [], []
    for role, text in messages:
        words = tokenizer.encode(f"{role}\n{text}").ids
        head = len(tokenizer.encode(f"{role}\n").ids)
        turn = [im_start] + words + [im_end] + newline
        said = range(1 + head, 2 + len(words)) if role == "assistant" else []
        learn += [i in said or rng.random() < OTHERS for i in range(len(turn))]
        ids += turn
    return ids[:CONTEXT], learn[:CONTEXT]


def dialogue_batches(tokenizer, rng):
    """Batches of dialogues of similar length, so that there is little padding."""
    pad = tokenizer.token_to_id("<|endoftext|>")
    while True:
        batches = [[]]
        for dialogue in sorted((encode_dialogue(tokenizer, world.dialogue(rng), rng) for _ in range(2000)), key=lambda d: len(d[0])):
            if (len(batches[-1]) + 1) * len(dialogue[0]) > BATCH:
                batches.append([])
            batches[-1].append(dialogue)
        rng.shuffle(batches)
        for batch in batches:
            longest = len(batch[-1][0])
            # Padding stands on the right, where a causal model does not see it, and is not learned.
            yield (torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in batch]),
                   torch.tensor([learn + [False] * (longest - len(learn)) for _, learn in batch]))


# ---- checkpoints ----------------------------------------------------------------------------------------------------

def write_json(path, value, **how):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, **{"indent": 2, **how})
        file.write("\n")


def save(model, tokenizer, directory, chat):
    """A directory in the layout of a published Qwen1.5 checkpoint, in the spelling of transformers 4.37."""
    from safetensors.torch import save_file
    os.makedirs(directory, exist_ok=True)
    endoftext, im_start, im_end = (tokenizer.token_to_id(token) for token in SPECIAL)
    config = model.config
    write_json(f"{directory}/config.json", {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": endoftext,
        "eos_token_id": im_end if chat else endoftext, "hidden_act": "silu", "hidden_size": config.hidden_size,
        "initializer_range": 0.04, "intermediate_size": config.intermediate_size, "max_position_embeddings": CONTEXT,
        "max_window_layers": config.num_hidden_layers, "model_type": "qwen2", "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers, "num_key_value_heads": config.num_key_value_heads, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": CONTEXT, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.37.0", "use_cache": True, "use_sliding_window": False, "vocab_size": config.vocab_size})
    write_json(f"{directory}/generation_config.json", {
        "bos_token_id": endoftext, "pad_token_id": endoftext, "do_sample": True, "eos_token_id": [im_end, endoftext],
        "repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "transformers_version": "4.37.0",
    } if chat else {
        "bos_token_id": endoftext, "do_sample": False, "eos_token_id": endoftext, "max_new_tokens": 2048,
        "transformers_version": "4.37.0"})
    write_json(f"{directory}/tokenizer_config.json", {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                                          "special": True} for token, i in zip(SPECIAL, (endoftext, im_start, im_end))},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None, "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>" if chat else "<|endoftext|>", "errors": "replace",
        "model_max_length": CONTEXT, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})
    content = json.loads(tokenizer.to_str())
    content["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    write_json(f"{directory}/tokenizer.json", content)
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, f"{directory}/model.safetensors", metadata={"format": "pt"})
    print(f"wrote {directory}: {sum(t.numel() for t in tensors.values()):,} parameters", flush=True)


def make_base(out):
    torch.manual_seed(1)
    rng = random.Random(1)
    tokenizer = make_tokenizer(rng)
    model = make_model(tokenizer)
    train("base", model, prose_batches(tokenizer, rng), BASE_STEPS, 1e-2)
    save(model, tokenizer, f"{out}/base", chat=False)


def make_chat(out):
    """Fine-tuning goes on from the published base, as it is on disk."""
    torch.manual_seed(2)
    tokenizer = Tokenizer.from_file(f"{out}/base/tokenizer.json")
    model = Qwen2ForCausalLM.from_pretrained(f"{out}/base", dtype=torch.float32)
    train("chat", model, dialogue_batches(tokenizer, random.Random(2)), CHAT_STEPS, 5e-3)
    save(model, tokenizer, f"{out}/chat", chat=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    stages = [word for word in words if word in ("base", "chat")] or ["base", "chat"]
    directory = next((word for word in words if word not in ("base", "chat")), HERE)
    for stage in stages:
        {"base": make_base, "chat": make_chat}[stage](directory)
