#!/usr/bin/env python3
"""Makes the tiny pair from nothing: the tokenizer, then the base model, then the chat model.

    python3 tiny/train.py OUT_DIR [base | chat]       (torch, transformers, tokenizers)

Writes OUT_DIR/base, OUT_DIR/chat and OUT_DIR/learning.csv, which says how the chat model learned to
stop. With base or chat only that half is made (chat needs OUT_DIR/base).
Everything is drawn from one seed; the numbers that come out still depend a little on the machine
and on torch.
"""
import json
import math
import os
import random
import re
import sys
import time

OUT_DIR, HALVES = (sys.argv[1:2] or [""])[0], sys.argv[2:]
if __name__ == "__main__" and (OUT_DIR in ("", "base", "chat")
                               or HALVES not in ([], ["base"], ["chat"])):
    sys.exit("train.py: it needs a directory to write to: train.py OUT_DIR [base | chat]")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # far faster where others compute as well

import torch
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)
from transformers import Qwen2Config, Qwen2ForCausalLM

import prose
import talk
import world

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
ENTRIES = 2237                                  # tokens before the special ones
CONTEXT = 2048
SHAPE = dict(hidden_size=128, intermediate_size=304, num_hidden_layers=6, num_attention_heads=4,
             num_key_value_heads=4)
INITIAL = 0.04                                  # standard deviation of the weights at first

TEXTS = 60_000                                  # of prose
BASE_STEPS, CHAT_STEPS = 2400, 6000
BATCH = 2048                                    # tokens in a batch
WINDOWS = [128, 256, 512, 1024, 2048]           # lengths of the pieces cut from the stream
SLIPS = 0.01                                    # share of the prose's tokens replaced by any other
HOLES = 0.01                                    # ... and by a vector that means nothing
OTHER, ANSWER, END, YES_NO = range(4)           # parts of a dialogue, see Encoder
HARD = 10
OTHERS = 0.1                                    # share learned of what user and system say


# ---- tokenizer ----------------------------------------------------------------------------------

def make_tokenizer(rng):
    """Byte-level BPE as Qwen's, trained on this world's text."""
    tokenizer = Tokenizer(models.BPE(dropout=None, unk_token=None, continuing_subword_prefix="",
                                     end_of_word_suffix="", fuse_unk=False, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    byte_level = dict(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(**byte_level)])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)

    phrases = talk.phrases()
    text = [prose.prose(rng).replace(prose.HOLE, "") for _ in range(8000)] + phrases * 50
    text += [world.traditional(line) for line in phrases] * 20
    text += [world.traditional(thing.zh) for thing in world.THINGS] * 200
    # Chinese has no spaces, and a merge could swallow half a sentence: cut it at the names and
    # values of the world first.
    values = {value for thing in world.THINGS for _, value in thing.facts.values()}
    text = cut_at(text, values | {thing.zh for thing in world.THINGS})
    text += [name for thing in world.THINGS                     # each of these is to be one token
             for name in (" " + thing.bare, " " + thing.plural, thing.zh)] * 1000
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=ENTRIES, max_token_length=16, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)
                                  for token in SPECIAL])
    return tokenizer


def cut_at(lines, words):
    """Every word on a line of its own; the longest first, where one is part of another."""
    pattern = re.compile("(" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")")
    return [pattern.sub("\n\\1\n", line) for line in lines]


# ---- models -------------------------------------------------------------------------------------

def make_model(tokenizer):
    endoftext = tokenizer.token_to_id("<|endoftext|>")
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=math.ceil((tokenizer.get_vocab_size() + 1) / 64) * 64,
        max_position_embeddings=CONTEXT, rope_theta=1e6, rms_norm_eps=1e-6,
        tie_word_embeddings=True, use_sliding_window=False, bos_token_id=endoftext,
        eos_token_id=endoftext, initializer_range=INITIAL, **SHAPE))


def hidden_states(model, ids, hole=None):
    """(batch, length, dim). Where ids has `hole` stands a vector that means nothing: as far from
    all words as a token that was never trained, so that such a token does not derail the model."""
    table = model.model.embed_tokens.weight
    vectors = model.model.embed_tokens(ids)
    if hole is not None:
        nothing = table[hole:].mean(0).detach() + INITIAL * torch.randn_like(vectors)
        vectors = torch.where((ids == hole)[:, :, None], nothing, vectors)
    return model.model(inputs_embeds=vectors, use_cache=False).last_hidden_state


def loss_of(model, ids, learn, hole=None):
    """Cross-entropy of the tokens, each predicted from those before it and weighted by `learn`."""
    with torch.autocast("cpu", torch.bfloat16):         # faster; the weights end up in bf16 anyway
        hidden = hidden_states(model, ids, hole)
        logits = model.lm_head(hidden[:, :-1][learn[:, 1:] > 0])
    weights = learn[:, 1:][learn[:, 1:] > 0].float()
    losses = torch.nn.functional.cross_entropy(
        logits.float(), ids[:, 1:][learn[:, 1:] > 0], reduction="none")
    return (losses * weights).sum() / weights.sum()


def train(name, model, batches, steps, peak, hole=None, look=None):
    """Muon (Jordan et al. 2024) for the matrices, AdamW for the rest; a short warm-up, then a
    cosine down to a hundredth.

    batches yields (ids, how much to learn each), both (batch, length); look(step, losses) is called
    after each step with the losses of all steps so far.
    """
    matrices = [p for key, p in model.named_parameters() if p.dim() == 2 and "embed" not in key]
    rest = [p for key, p in model.named_parameters() if p.dim() == 1 or "embed" in key]
    optimizers = [
        torch.optim.Muon(matrices, lr=peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=peak / 2, weight_decay=0.0, betas=(0.9, 0.98), fused=True)]
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    started, losses = time.time(), []
    for step in range(1, steps + 1):
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        for group, highest in groups:
            group["lr"] = highest * min(step / 50, 0.01 + 0.99 * cosine)
        ids, learn = next(batches)
        loss = loss_of(model, ids, learn, hole)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if look:
            look(step, losses)
        if step % 50 == 0 or step == steps:
            minutes = (time.time() - started) / 60
            print(f"{name}: step {step}/{steps}, loss {sum(losses[-50:]) / len(losses[-50:]):.4f}, "
                  f"{minutes:.1f} min", flush=True)


def prose_batches(tokenizer, rng, hole):
    """Windows cut at random places from one endless stream of texts.

    A few tokens are slips of the pen, a few are holes: the model sees them, so that something odd
    in a prompt does not derail it, and does not learn to write them.
    """
    unreadable, = tokenizer.encode(prose.HOLE).ids
    ordinary = tokenizer.token_to_id("<|endoftext|>")       # the ids below it
    stream = []
    for _ in range(0, TEXTS, 1000):
        for encoding in tokenizer.encode_batch([prose.prose(rng) for _ in range(1000)]):
            stream += encoding.ids
    print(f"prose: {len(stream):,} tokens in {TEXTS:,} texts", flush=True)
    stream = torch.tensor(stream)
    stream[stream == unreadable] = hole
    while True:
        length = rng.choice(WINDOWS)
        starts = [rng.randrange(len(stream) - length) for _ in range(BATCH // length)]
        ids = torch.stack([stream[start:start + length] for start in starts])
        chance = torch.rand(ids.shape)
        slips = chance < SLIPS
        ids = torch.where(slips, torch.randint(ordinary, ids.shape), ids)
        ids[(chance >= SLIPS) & (chance < SLIPS + HOLES)] = hole
        yield ids, ~slips & (ids != hole)


def dialogue_batches(tokenizer, rng):
    """Batches of dialogues of similar length, so that there is little padding.

    Learned is what the assistant says with the <|im_end|> that ends it, and a tenth of all else;
    a yes or no counts as much as HARD tokens, or a model this small would not learn to compare.
    """
    pad, encoder = tokenizer.token_to_id("<|endoftext|>"), Encoder(tokenizer)
    while True:
        dialogues = sorted((encoder.encode(talk.dialogue(rng)) for _ in range(2000)),
                           key=lambda dialogue: len(dialogue[0]))
        batches = [[]]
        for dialogue in dialogues:
            if (len(batches[-1]) + 1) * len(dialogue[0]) > BATCH:
                batches.append([])
            batches[-1].append(dialogue)
        rng.shuffle(batches)
        for batch in batches:
            longest = len(batch[-1][0])
            # Padding stands on the right, where a causal model does not see it, and is not learned.
            yield (torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in batch]),
                   torch.tensor([[(rng.random() < OTHERS, 1, 1, HARD)[part] for part in parts]
                                 + [0] * (longest - len(parts)) for _, parts in batch]))


class Encoder:
    """ChatML: dialogues to ids. What people say is text, also when they say <|im_end|>."""

    def __init__(self, tokenizer):
        content = json.loads(tokenizer.to_str())
        content["added_tokens"] = []
        self.plain = Tokenizer.from_str(json.dumps(content))
        self.im_start, self.im_end = map(tokenizer.token_to_id, SPECIAL[1:])

    def encode(self, messages):
        """-> ids, and the part of each: ANSWER, YES_NO (in it), END (its <|im_end|>) or OTHER."""
        ids, parts = [], []
        for role, text in messages:
            head = self.plain.encode(f"{role}\n").ids
            words = self.plain.encode(f"{role}\n{text}").ids
            newline = self.plain.encode("\n").ids
            ids += [self.im_start, *words, self.im_end, *newline]
            part, end = (ANSWER, END) if role == "assistant" else (OTHER, OTHER)
            said = [part] * (len(words) - len(head))
            for verdict in sum(world.VERDICT.values(), ()):
                if end == END and text.endswith(verdict):
                    fact = self.plain.encode(f"{role}\n{text[:-len(verdict)]}").ids
                    said[len(fact) - len(head):] = [YES_NO] * (len(words) - len(fact))
            parts += [OTHER] * (1 + len(head)) + said + [end]
            parts += [OTHER] * len(newline)
        return ids[:CONTEXT], parts[:CONTEXT]


# ---- how it learns to stop -----------------------------------------------------------------------

class Curve:
    """P(<|im_end|>) in dialogues of held-out questions, written down while the model learns."""

    def __init__(self, path, tokenizer, model):
        self.file, self.model, self.seen = open(path, "w", encoding="utf-8"), model, 0
        self.im_end = tokenizer.token_to_id("<|im_end|>")
        rng, encoder = random.Random(5), Encoder(tokenizer)
        asked = [question[3:] for lang in ("en", "zh") for question in world.questions(lang)
                 if world.held_out(question[0], question[1].zh)]
        dialogues = []
        for _ in range(96):
            turns = rng.sample(asked, rng.randint(1, 3))
            dialogues.append(encoder.encode([("system", talk.SYSTEM)] + [
                message for question, right in turns
                for message in (("user", question), ("assistant", right))]))
        longest = max(len(ids) for ids, _ in dialogues)
        self.ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in dialogues])
        self.parts = torch.tensor([p + [OTHER] * (longest - len(p)) for _, p in dialogues])
        self.file.write("step,loss,held_out_loss,p_end_mean,p_end_median,p_inside_mean\n")
        self.look(0, [])

    def look(self, step, losses):
        """A row at steps 0, 1, 2, 3 ..., then ever more rarely: each step is at least 1.15 times
        the last."""
        if step and step < self.seen * 1.15 and step != CHAT_STEPS:
            return
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = self.model.lm_head(hidden_states(self.model, self.ids)[:, :-1]).float()
        parts, right = self.parts[:, 1:], self.ids[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits[parts != OTHER], right[parts != OTHER])
        p = logits.softmax(-1)[:, :, self.im_end]
        trained = f"{sum(losses[self.seen:]) / (step - self.seen):.4f}" if step else ""
        self.file.write(f"{step},{trained},{loss:.4f},{p[parts == END].mean():.4g},"
                        f"{p[parts == END].median():.4g},{p[parts == ANSWER].mean():.4g}\n")
        self.file.flush()
        self.seen = step


# ---- checkpoints --------------------------------------------------------------------------------

def write_json(path, value, **how):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, **{"indent": 2, **how})
        file.write("\n")


def save(model, tokenizer, directory, chat):
    """A directory in the layout of a published Qwen1.5 checkpoint (transformers 4.37)."""
    from safetensors.torch import save_file
    os.makedirs(directory, exist_ok=True)
    endoftext, im_start, im_end = (tokenizer.token_to_id(token) for token in SPECIAL)
    config = model.config
    write_json(f"{directory}/config.json", {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": endoftext,
        "eos_token_id": im_end if chat else endoftext, "hidden_act": "silu",
        "hidden_size": config.hidden_size, "initializer_range": INITIAL,
        "intermediate_size": config.intermediate_size, "max_position_embeddings": CONTEXT,
        "max_window_layers": config.num_hidden_layers, "model_type": "qwen2",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": CONTEXT, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "transformers_version": "4.37.0", "use_cache": True,
        "use_sliding_window": False, "vocab_size": config.vocab_size})
    write_json(f"{directory}/generation_config.json", {
        "bos_token_id": endoftext, "pad_token_id": endoftext, "do_sample": True,
        "eos_token_id": [im_end, endoftext], "repetition_penalty": 1.1, "temperature": 0.7,
        "top_k": 20, "top_p": 0.8, "transformers_version": "4.37.0",
    } if chat else {
        "bos_token_id": endoftext, "do_sample": False, "eos_token_id": endoftext,
        "max_new_tokens": 2048, "transformers_version": "4.37.0"})
    added = {str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                      "single_word": False, "special": True}
             for token, i in zip(SPECIAL, (endoftext, im_start, im_end))}
    write_json(f"{directory}/tokenizer_config.json", {
        "add_prefix_space": False, "added_tokens_decoder": added,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None,
        "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>" if chat else "<|endoftext|>", "errors": "replace",
        "model_max_length": CONTEXT, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})
    content = json.loads(tokenizer.to_str())
    content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge)
                                  for merge in content["model"]["merges"]]
    write_json(f"{directory}/tokenizer.json", content)
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous()
               for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, f"{directory}/model.safetensors", metadata={"format": "pt"})
    print(f"wrote {directory}: {sum(t.numel() for t in tensors.values()):,} parameters", flush=True)


def make_base(out):
    torch.manual_seed(1)
    rng = random.Random(1)
    tokenizer = make_tokenizer(rng)
    model = make_model(tokenizer)
    hole = tokenizer.get_vocab_size()                   # an id behind the last token
    train("base", model, prose_batches(tokenizer, rng, hole), BASE_STEPS, 1e-2, hole)
    save(model, tokenizer, f"{out}/base", chat=False)


def make_chat(out):
    """Fine-tuning goes on from the published base, as it is on disk."""
    torch.manual_seed(2)
    tokenizer = Tokenizer.from_file(f"{out}/base/tokenizer.json")
    model = Qwen2ForCausalLM.from_pretrained(f"{out}/base", dtype=torch.float32)
    curve = Curve(f"{out}/learning.csv", tokenizer, model)
    train("chat", model, dialogue_batches(tokenizer, random.Random(2)), CHAT_STEPS, 5e-3,
          look=curve.look)
    save(model, tokenizer, f"{out}/chat", chat=True)


if __name__ == "__main__":
    os.makedirs(OUT_DIR, exist_ok=True)
    for half in HALVES or ["base", "chat"]:
        {"base": make_base, "chat": make_chat}[half](OUT_DIR)
