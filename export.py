"""A Hugging Face checkpoint of Qwen1.5, Qwen2, Qwen2.5 or dense Qwen3 -> one .bin for ./qwen.

Everything that the C program needs ends up in it: shape, special ids, generation defaults, how
chats are framed, the tokenizer with its Unicode tables, the weights. tokenizer.c says where each
byte lies. Standard library only, Python 3.8 or newer. Memory does not grow with the model.
"""
from __future__ import annotations

import argparse, ast, base64, contextlib, errno, itertools, json, math, os      # noqa: E401
import re, reprlib, signal, stat, struct, sys, time, unicodedata, warnings, zlib    # noqa: E401
from collections import ChainMap, defaultdict, namedtuple
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple

ALIGN = 64                              # bytes; sections, arrays, tensors start at multiples of it
CHUNK = 8 << 20                         # bytes of weights read at a time
MAX_JSON = 64 << 20                     # bytes; the real tokenizer.json has 7 to 11 MB
MAX_TEMPLATE = 1 << 16                  # characters of a chat template
DTYPE_SIZE = {"BF16": 2, "F16": 2, "F32": 4}
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
NONE = 0xFFFFFFFF
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
AGAIN = "download it again"
COMPLETE = "give a directory with all files of a checkpoint"
UNSUPPORTED = "only Qwen1.5, Qwen2, Qwen2.5 and dense Qwen3 as published are supported"
UNQUANTISED = "quantised: take the checkpoint that it was made from"

# The model's shape in the order of the header; where a tensor lies (bytes) and what it is.
Config = namedtuple("Config", "dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size "
                              "max_positions tied rms_eps rope_theta qkv_bias qk_norm")
Tensor = namedtuple("Tensor", "path name dtype shape offset size")

brief = reprlib.Repr()                  # shortens values of a file inside messages
brief.maxstring = brief.maxother = 80

class Refusal(Exception):
    """Refusal(what is wrong, in which file, what to do)."""

def refuse_if(wrong: Any, what: str, path: str, advice: str = UNSUPPORTED) -> None:
    if wrong:
        raise Refusal(what, path, advice)

# -- The terminal, signals -------------------------------------------------------------------------

temporary = ""                          # the unfinished file
complete = False                        # it is whole: too late to interrupt
fancy = (os.isatty(2) and os.environ.get("TERM") != "dumb"
         and not os.environ.get("NO_COLOR"))    # standard error obeys escape sequences

def show(text: str) -> None:
    """Writes to standard error. The export counts even if nobody can read this."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "replace"))

def say(*parts: str) -> None:
    """Shows one line, in the place of a progress bar. Names in it may hold control characters."""
    line = "".join(c if c.isprintable() else "?" for c in ": ".join(("export.py",) + parts))
    show(("\r\x1b[K" if fancy else "") + line + "\n")

def remove_temporary() -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary)

def interrupted(number: int, frame: object) -> None:
    if not complete:
        remove_temporary()
        say("interrupted", "nothing was written", "run it again")
        os._exit(128 + number)

# -- Files and JSON --------------------------------------------------------------------------------

class Settings(namedtuple("Settings", "path values")):
    """A JSON object that knows its file, so that every refusal names it."""

    def refuse_if(self, wrong: Any, name: str, advice: str = UNSUPPORTED) -> None:
        if wrong:
            raise Refusal(f"{name} is {brief.repr(self.values.get(name))}", self.path, advice)

    def get(self, name: str, kind: type, default: Any = None, low: float = 0,
            high: float = 1e6) -> Any:
        """Returns the field `name`. It must be of the type `kind`, a number within low..high. null
        counts as missing; a missing field without a default is refused."""
        value = self.values.get(name)
        value = default if value is None else value
        refuse_if(value is None, f"{name} is missing", self.path, COMPLETE)
        if kind is float and type(value) is int:
            value = float(value)
        self.refuse_if(type(value) is not kind, name, f"it should be of type {kind.__name__}")
        self.refuse_if(kind in (int, float) and not low <= value <= high, name,
                       f"it should be between {low} and {high}")
        return value

    def inside(self, name: str) -> Settings:
        return Settings(f"{self.path}, {name}", self.get(name, dict))

def open_input(path: str) -> Any:
    """Opens a file to read. Refuses what git and the Hub's cache leave in the place of a file, and
    devices and pipes, which may have no end."""
    mode = os.stat(path).st_mode
    refuse_if(not stat.S_ISREG(mode) and not stat.S_ISDIR(mode), "not a regular file", path,
              COMPLETE)
    file = open(path, "rb")             # which refuses a directory
    start = file.read(200)
    file.seek(0)
    refuse_if(start.startswith(b"version https://git-lfs"), "a Git LFS pointer instead of the file",
              path, "run `git lfs pull` in its directory")
    refuse_if(re.fullmatch(rb"(\.\./)+[\w./-]+\s*", start), "the text of a link instead of the "
              "file", path, "copy the checkpoint together with what its links lead to")
    return file

def read_text(path: str) -> str:
    with open_input(path) as file:
        data = file.read(MAX_JSON + 1)
    refuse_if(len(data) > MAX_JSON, "larger than 64 MB", path, COMPLETE)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal("no JSON or text in UTF-8", path, "save it as UTF-8") from None

def parse_json(text: str, path: str) -> Settings:
    """Reads `text`, the contents of `path`, as a JSON object in which no name stands twice."""
    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        values: Dict[str, Any] = {}
        for name, value in pairs:
            if name in values:
                raise ValueError(f"{brief.repr(name)} stands there twice")
            values[name] = value
        return values

    try:                                # 40 digits are as far out of range as 4,000
        values = json.loads(text, object_pairs_hook=unique, parse_int=lambda n: int(n[:40]))
        if type(values) is not dict:
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError) as error:
        raise Refusal(f"broken JSON, {error}", path, "mend it there, or " + AGAIN) from None
    return Settings(path, values)

def read_json(directory: str, name: str, optional: bool = False) -> Settings:
    path = os.path.join(directory, name)
    if optional and not os.path.lexists(path):      # a link that leads nowhere is an error
        return Settings(path, {})
    return parse_json(read_text(path), path)

# -- config.json, generation_config.json -----------------------------------------------------------

def read_config(config: Settings) -> Config:
    """Returns the shape from config.json. Refuses a setting that would change a logit in a way
    that ./qwen does not compute, and accepts one that changes none."""
    values, known = config.values, (["Qwen2ForCausalLM"], ["Qwen3ForCausalLM"])
    config.refuse_if(values.get("architectures") not in known, "architectures")
    qwen3 = values["architectures"] == known[1]
    config.refuse_if(values.get("quantization_config"), "quantization_config", UNQUANTISED)
    config.refuse_if(values.get("quantization"), "quantization", UNQUANTISED)
    config.refuse_if(values.get("hidden_act", "silu") not in ("silu", "swish"), "hidden_act",
                     "only silu is supported")
    config.refuse_if(config.get("attention_bias", bool, False) and qwen3, "attention_bias",
                     "Qwen3 is supported without biases")
    rope_name = "rope_scaling" if values.get("rope_scaling") else "rope_parameters"
    rope = Settings(config.path, {**values, **config.get(rope_name, dict, {})})
    scaling = rope.values.get("rope_type") or rope.values.get("type") or "default"
    scaled = scaling != "default" and (scaling, rope.values.get("factor")) != ("linear", 1)
    partial = rope.values.get("partial_rotary_factor") not in (None, 1)
    config.refuse_if(scaled or partial,
                     rope_name if values.get(rope_name) else "partial_rotary_factor",
                     "it changes the logits of short texts, too: remove it from a copy of "
                     "config.json to run the model as it was before")

    own_head_dim = values.get("head_dim") is not None or qwen3 and "head_dim" not in values

    def size(name: str, most: int, default: Optional[int] = None) -> int:
        return config.get(name, int, default, 1, most)

    dim, n_heads = size("hidden_size", 1 << 20), size("num_attention_heads", 1 << 12)
    c = Config(dim, size("intermediate_size", 1 << 20), size("num_hidden_layers", 1 << 12), n_heads,
               size("num_key_value_heads", n_heads, n_heads),
               size("head_dim", 1 << 12, 128 if own_head_dim else dim // n_heads or 1),
               size("vocab_size", 1 << 24), size("max_position_embeddings", 1 << 24),
               config.get("tie_word_embeddings", bool, False),
               config.get("rms_norm_eps", float, None, 1e-30, 0.1),
               rope.get("rope_theta", float, None, 1.0, 1e15), not qwen3, qwen3)
    config.refuse_if(c.head_dim % 2 or not own_head_dim and dim % n_heads,
                     "head_dim" if own_head_dim else "hidden_size",
                     f"it should be num_attention_heads {n_heads} times an even head_dim")
    config.refuse_if(n_heads % c.n_kv_heads, "num_key_value_heads",
                     f"it should divide num_attention_heads {n_heads}")

    window = config.get("use_sliding_window", bool, False) and values.get("sliding_window")
    layers = config.get("layer_types", list, [])
    if not layers and window and config.get("max_window_layers", int, 28) < c.n_layers:
        layers = ["sliding_attention"]
    long = type(window) is int and window >= c.max_positions
    slides = any(layer != "full_attention" and not (long and layer == "sliding_attention")
                 for layer in layers)
    config.refuse_if(slides, "layer_types" if values.get("layer_types") else "use_sliding_window",
                     "only full attention is supported")
    return c

# Settings that ./qwen applies, in header order: name, type, `transformers` default or 0, limits.
APPLIED = (
    ("max_new_tokens", int, 0), ("do_sample", bool, False), ("temperature", float, 1.0),
    ("top_k", int, 50, -1, 1 << 30), ("top_p", float, 1.0, 0, 1), ("min_p", float, 0.0, 0, 1),
    ("repetition_penalty", float, 1.0, 1e-6))
# Settings that it does not apply, by the value that turns them off. So do null, false, [] and {}.
UNAPPLIED = {
    None: "bad_words_ids begin_suppress_tokens constraints dola_layers forced_bos_token_id "
          "exponential_decay_length_penalty force_words_ids forced_decoder_ids forced_eos_token_id "
          "max_time sequence_bias stop_strings suppress_tokens top_h watermarking_config",
    0: "diversity_penalty encoder_no_repeat_ngram_size epsilon_cutoff eta_cutoff min_length "
       "min_new_tokens no_repeat_ngram_size penalty_alpha",
    1: "encoder_repetition_penalty guidance_scale num_beam_groups num_beams num_return_sequences "
       "typical_p", 20: "max_length"}

def read_generation(directory: str, config: Settings,
                    vocab_size: int) -> Tuple[List[int], List[Any]]:
    """Returns (eos ids, the values of APPLIED) of generation_config.json, completed by the defaults
    of `transformers`."""
    generation = read_json(directory, "generation_config.json", optional=True)
    source = generation if os.path.lexists(generation.path) else config
    eos = source.values.get("eos_token_id")
    listed = eos if type(eos) is list else [eos] * (eos is not None)
    source.refuse_if(any(type(i) is not int for i in listed), "eos_token_id",
                     "it should be an id or a list of ids")
    kept = [i for i in dict.fromkeys(listed) if 0 <= i < vocab_size][:32]
    if not kept or set(kept) != set(listed):
        say(f"note: eos_token_id is {brief.repr(eos)}, {len(kept)} of them kept"
            + ("" if kept else ", nothing ends a generation in base mode"), source.path)
    ignored = [name for neutral, names in UNAPPLIED.items() for name in names.split() if not (
        generation.values.get(name) in (None, [], {}, neutral) or generation.values[name] is False)]
    if ignored:
        say(f"note: ./qwen does not apply {', '.join(ignored)}", generation.path)
    return kept, [max(0, generation.get(*field)) for field in APPLIED]      # top_k may be -1

def read_tokenizer_eos(config: Settings, added: Dict[str, int], eos: List[int], kind: str) -> int:
    """Returns the id of tokenizer_config.json's eos_token, or NONE."""
    token = config.values.get("eos_token")
    token = token.get("content") if type(token) is dict else token
    i = added.get(token, NONE) if type(token) is str else NONE
    if i not in eos + [NONE] and not (kind == "chat" and token in SPECIAL):
        settle = "-m chat or --kind chat stops" if token in SPECIAL else f"--stop '{token}' stops"
        say(f"note: eos_token {token} is not among eos_token_id: {settle} there", config.path)
    return i

# -- The chat template -----------------------------------------------------------------------------

STRING = r"""(?s:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
TAG = re.compile(r"(?s)\{{%[-+]?({0})[-+]?%\}}|\{{\{{-?({0})-?\}}\}}|(.+?)(?=\{{[%{{]|\Z)".format(
    r"(?:" + STRING + r"|[^'\"])*?"))
WHITE_SPACE = (                         # acts as Jinja's trim_blocks, lstrip_blocks; drops comments
    (r"\r\n?", "\n"), (r"\n\Z", ""), (r"(?s)\{#([-+]?).*?(-?)#\}", r"{%\1 \2%}"),
    (r"(?m)^[ \t]+(?=\{%[^+])", ""), (r"%\}\n", "%}"), (r"\s*\{([%{])-", r"{\1"),
    (r"-([%}])\}\s*", r"\1}"))
PYTHON = (                              # `is f`, `|f`, `.x` of Jinja become .is_f(), .f(), ['x']
    (r"\bis\s+not\s+(\w+)", r".is_\1() == false"), (r"\bis\s+(\w+)", r".is_\1()"),
    (r"\|\s*(\w+)(?!\w*\s*\()", r".\1()"), (r"\|", "."), (r"%\s*(\d+)", r".modulo(\1)"),
    ("~", "+"), (r"\.\s*([A-Za-z_]\w*)(?!\w*\s*\()", r"['\1']"))
TAGS = (                                # a tag of Jinja, and the line of Python that does the same
    (r"set\s+(\w+)\s*=(.*)", "names[{0!r}] = value({1!r})"),
    (r"set\s+(\w+)\.(\w+)\s*=(.*)", "names[{0!r}][{1!r}] = value({2!r})"),
    (r"for\s+((\w+).*)", "for names[{1!r}] in turns(value('[{1} for ' + {0!r} + ']')):"),
    (r"(if|elif)\s+(.*)", "{0} value({1!r}):"), ("else", "else:"),
    ("|endif|endfor|generation|endgeneration", "pass"), (".*", "raise ValueError"))
FUNCTIONS = {
    "strip": str.strip, "lstrip": str.lstrip, "rstrip": str.rstrip, "split": str.split,
    "startswith": str.startswith, "endswith": str.endswith, "trim": str.strip, "length": len,
    "modulo": lambda x, n: divmod(x, n)[1], "default": lambda x, other: other if x == "" else x,
    "is_defined": lambda x: x != "", "is_string": lambda x: type(x) is str and x != "",
    "is_none": lambda x: x is None, "is_true": lambda x: x is True,
    "is_false": lambda x: x is False, "namespace": lambda **fields: defaultdict(str, fields)}
HARMLESS = set("""Expression Load Name Constant List ListComp comprehension Store Subscript Slice
    Index Call keyword IfExp BoolOp And Or UnaryOp Not USub BinOp Add Sub Compare Eq NotEq Lt LtE
    Gt GtE In NotIn""".split())
OPENINGS = "", "<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"
CHATS = ([("user", " Q\n")], [("user", "Q")], [("system", "S"), ("user", "Q")],
         [("user", "Q"), ("assistant", "<think>\nR\n</think>\n\nA"), ("user", "Q")])
PLAIN_CHATS = "chats will be ChatML without a default system message"

def evaluate(text: str, names: ChainMap) -> Any:
    """Returns the value of an expression in a template, whose grammar is nearly Python's. Python
    evaluates what it can do no harm with; anything else raises."""
    parts = re.split("(" + STRING + ")", text.strip())
    for old, new in PYTHON:
        parts[::2] = [re.sub(old, new, part) for part in parts[::2]]
    parts[1::2] = [repr(part[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape"))
                   for part in parts[1::2]]
    tree = ast.parse("(" + "".join(parts) + ")", mode="eval")
    for node in ast.walk(tree):         # x.f(a) becomes f(x, a): no attribute remains
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node.args.insert(0, node.func.value)
            node.func = ast.Name(node.func.attr, ast.Load())
    if not {type(node).__name__ for node in ast.walk(tree)} <= HARMLESS:
        raise ValueError
    return eval(compile(ast.fix_missing_locations(tree), "", "eval"),
                defaultdict(str, names, __builtins__={}))       # what is not set shows as ""

def render(template: str, chat: List[Tuple[str, str]], tokens: Dict[str, Any]) -> Optional[str]:
    """Returns the text that a template makes of a chat, or None if it uses what is not supported.
    Tags become lines of a Python program. Expressions and text are string literals in it."""
    messages = [defaultdict(str, role=role, content=text) for role, text in chat]
    names = ChainMap({**FUNCTIONS, **tokens, "messages": messages, "add_generation_prompt": True,
                      "true": True, "false": False, "none": None})
    left, out = 1 << 18, []             # left: limit on work: nested loops could run for hours

    def value(expression: str) -> Any:
        nonlocal left
        result = evaluate(expression, names)
        left -= len(expression) + (len(result) if type(result) in (str, list) else 1)
        if left < 0:
            raise OverflowError
        return result

    def turns(items: List[Any]) -> Iterator[Any]:
        for i, item in enumerate(items):        # what a turn of a loop sets ends with it
            names.maps.insert(0, {"loop": dict(
                first=i == 0, last=i + 1 == len(items), index0=i, index=i + 1)})
            yield item
            names.maps.pop(0)

    program, blocks = "", []
    try:
        for tag, shown, text in TAG.findall(template):
            tag = tag.strip()
            line = f"out.append(value({shown or repr(text)!r}))" if shown or text else next(
                python.format(*match.groups()) for jinja, python in TAGS
                for match in [re.fullmatch(jinja, tag, re.S)] if match)
            if re.match("elif|else|endif|endfor", tag) and blocks.pop() + tag == "forelse":
                return None             # Python has a different one
            program += " " * len(blocks) + line + "\n"
            if line.endswith(":"):
                blocks.append(tag[:3])
                program += " " * len(blocks) + "pass\n"
        exec(program, {"names": names, "value": value, "turns": turns, "out": out})
        return "".join(out)
    except Exception:                   # whatever is not understood
        return None

def frame(chat: List[Tuple[str, str]], system: str, opening: int, cuts: bool) -> str:
    """Returns what ./qwen makes of a chat: (role, text) of each message."""
    if system and chat[0][0] != "system":
        chat = [("system", system)] + chat
    return "".join(f"<|im_start|>{role}\n" + (
        text.split("</think>")[-1].lstrip("\n") if cuts and role == "assistant" else text)
        + "<|im_end|>\n" for role, text in chat) + OPENINGS[opening]

def read_template(directory: str, config: Settings) -> Tuple[Tuple[int, int, int], bytes]:
    """Returns (chatml, opening, cuts_reasoning), the default system message: what the chat template
    in chat_template.jinja, or else in tokenizer_config.json, makes of CHATS."""
    path = os.path.join(directory, "chat_template.jinja")
    tokens = {name: value for name, value in config.values.items() if type(value) is str}
    if os.path.lexists(path):
        config = Settings(path, {"chat_template": read_text(path)})
    template = config.values.get("chat_template")
    if type(template) is list:          # of named ones
        template = next((t.get("template") for t in template if type(t) is dict
                         and t.get("name") == "default"), template)
    if template is None:
        say("note: no chat template, " + PLAIN_CHATS, directory)
        return (1, 1, 0), b""
    config.refuse_if(type(template) is not str or len(template) > MAX_TEMPLATE, "chat_template",
                     "it should be a text of 65,536 characters at most, or a list with one named "
                     "default")
    for old, new in WHITE_SPACE:
        template = re.sub(old, new, template)
    if "<|im_start|>" not in template or "<|im_end|>" not in template:
        say("note: the chat template is not ChatML, ./qwen will refuse to chat", config.path)
        return (0, 1, 0), b""
    texts = [render(template, chat, tokens) for chat in CHATS]
    text = texts[0] or ""
    system = re.match(r"(?s)\s*<\|im_start\|>system\n(.*?)<\|im_end\|>|", text)[1] or ""
    after = text.rpartition("<|im_end|>")[2][1:]
    opening = OPENINGS.index(after) if text and after in OPENINGS else 1
    cuts = bool(re.search(r"""</think>['"]\s*\)""", template))
    framed = [frame(chat, system, opening, cuts) for chat in CHATS]
    for text, own, chat in zip(texts, framed, CHATS):
        if text != own:
            say("note: the chat template " + (
                "is not followed, " + PLAIN_CHATS if texts[0] is None else
                "trims messages, ./qwen does not" if texts[:2] == framed[1:2] * 2 else
                f"is not followed for {[role for role, _ in chat]}" if text is None else
                f"makes {text!r} of a chat, ./qwen {own!r}"), config.path)
            break
    encoded = system.encode("utf-8", "replace")
    refuse_if(len(encoded) > 768, f"the default system message has {len(encoded)} bytes",
              config.path, "shorten it to 768 in the chat template")
    return (1, opening, cuts), encoded

# -- The tokenizer section -------------------------------------------------------------------------

def byte_alphabet() -> Dict[int, int]:
    """{code point: byte}: the printable characters by which byte-level BPE writes the 256 bytes, as
    GPT-2 did."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**dict(zip(printable, printable)), **{256 + i: byte for i, byte in enumerate(others)}}

def check_pipeline(tokenizer: Settings, model: Settings) -> None:
    """Refuses a tokenizer.json that does anything but NFC, the Qwen split and byte-level BPE."""
    split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated",
             "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = tokenizer.inside("pre_tokenizer").get("pretokenizers", list, [])
    accepted = [[split, {**byte_level, **more}]
                for more in ({}, {"trim_offsets": False}, {"trim_offsets": True})]
    tokenizer.refuse_if(tokenizer.values.get("normalizer") != {"type": "NFC"}, "normalizer")
    tokenizer.refuse_if(steps not in accepted, "pre_tokenizer")
    for name in ("decoder", "post_processor"):
        found = tokenizer.get(name, dict, byte_level).get("type")
        tokenizer.refuse_if(found != "ByteLevel", name)
    for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                 "byte_fallback", "ignore_merges", "type"):
        model.refuse_if(model.values.get(name) and model.values[name] != "BPE", name)

def read_tokens(tokenizer: Settings, model: Settings, vocab_size: int,
                may_change: Any) -> Tuple[Dict[int, bytes], Dict[str, int], List[int]]:
    """Returns ({id: bytes} of all tokens, {text: id} of the added ones, the header's `added`).
    `may_change` tells of a code point whether NFC may change it."""
    vocab, alphabet, path = model.get("vocab", dict), byte_alphabet(), tokenizer.path
    wrong = [(text, i) for text, i in vocab.items()
             if type(i) is not int or not 0 <= i < vocab_size]
    refuse_if(wrong, f"vocab has ids that are none or beyond vocab_size: {brief.repr(wrong)}", path)
    refuse_if("" in vocab or not set(map(ord, set().union(*vocab))) <= set(alphabet),
              "vocab has a token that is not made of the byte-level alphabet", path)
    tokens = {i: text.translate(alphabet).encode("latin-1") for text, i in vocab.items()}
    refuse_if(len(tokens) != len(vocab), "vocab gives one id to two tokens", path)
    refuse_if(not {bytes([byte]) for byte in range(256)} <= set(tokens.values()),
              "vocab lacks some of the 256 single bytes", path)

    added: Dict[str, int] = {}
    flags: Dict[int, int] = {}
    for entry in tokenizer.get("added_tokens", list):
        token = Settings(f"{path}, added_tokens", entry if type(entry) is dict else {})
        text, i = token.get("content", str), token.get("id", int, None, 0, vocab_size - 1)
        called, normalized = brief.repr(text), token.get("normalized", bool, False)
        for flag in ("single_word", "lstrip", "rstrip"):
            refuse_if(token.get(flag, bool, False), f"the added token {called} has {flag}", path)
        taken = i in tokens and text not in vocab
        refuse_if(not text or text in added or vocab.get(text, i) != i or taken,
                  f"the added token {called} with id {i} is empty or contradicts others", path)
        changes = normalized and any(may_change(ord(c)) for c in text)
        refuse_if(changes or re.search("[\ud800-\udfff]", text),
                  f"the added token {called} is no text in NFC", path)
        added[text], tokens[i] = i, text.encode()
        flags[i] = token.get("special", bool, False) << 31 | normalized << 30
    for text in SPECIAL:
        refuse_if(text not in added, f"added_tokens lacks {text}", path)
    return tokens, added, [i | flags[i] for i in sorted(flags, key=lambda i: (-len(tokens[i]), i))]

def merge_table(model: Settings) -> bytes:
    """The merges as a hash table, four u32 a slot: left, right, rank, id of the joined token."""
    vocab, merges = model.values["vocab"], model.get("merges", list)
    bits = max(1, (3 * len(merges) - 1).bit_length() - 1)       # at most two thirds full
    empty = struct.pack("<4I", 0, 0, 0, NONE)
    slots, seen = [empty] * (1 << bits), set()
    for rank, merge in enumerate(merges):
        try:                                        # "a b", or ["a", "b"] in newer files
            a, b = merge.split(" ") if type(merge) is str else merge
            pair, joined = (vocab[a], vocab[b]), vocab[a + b]
        except (TypeError, ValueError, KeyError):
            pair = None
        refuse_if(pair is None or pair in seen, f"merge {rank}, {repr(merge)[:80]}, is a "
                  "repetition, or not two tokens that join to one", model.path, AGAIN)
        seen.add(pair)
        slot = ((pair[0] * 0x9E3779B1 + pair[1]) * 0x85EBCA6B & 0xFFFFFFFF) >> (32 - bits)
        while slots[slot] is not empty:
            slot = (slot + 1) % (1 << bits)
        slots[slot] = struct.pack("<4I", *pair, rank, joined)
    return b"".join(slots)


# What Unicode 16.0 has beyond 3.2, made by tests/unicode_tables.py; 16.0 is what the split pattern
# of `tokenizers` 0.23 knows. Python has 3.2 for good, so every Python makes the same tables.
UNICODE = """
c-p;JdyE}b8K2*G&Y3xL?%c=ToxOLv-N)^AyQRC`?zW|XprtAli4TYoiI^A-4-p$hP0)ly*@eJ*sVl(-f!4Mb!XIcFB&5*lA84=;
Kp;fc2vjSthDVSPf>nh0oilUi&fP9(qB3*l%$ak(^F4pxckXSLLsi8E=))BP)&4I~NCnf6^MwS+wu%A?0i1=E;WfY+7$x#6jVY|e
64YS;9#wp!VK0F`RReFqcTuJ?Cd9z{O=elZoFq?DO(J9>Rb3)vLG{81DH3u_sge~&u%eiNNO8XbePT)FgQ#EvcKIwUM-86=^}yeN
63<6egujtB>ETCU5-h1t5G2Js!pXo8kBfX0Mwp&hVhAOejwlNG3m2Fh64CG_PX|m{L^o@HEocbhdayZ$-NEyHQb153WRbskE6-yU
FORdp^AvXT_EY&@$wKX2=24GmR4xShf0rRH)iG0qi19sIiK^+r#caTGsLh52NpkAIm_bs7)w0hotf*Vf<OZI#)_}B6nqYiWgjT+d
k9Cw>E7@|^!!~GPx|lv946^Bt#;oR^9V;jr(aZqa2w_I3pvFm5ctLS=5J(#izSX_l1=b_LisZ%D4z|(1f(qzok(1yJa<up<et(!v
Vu@mk)OCV>2X+$STEg2LC+gFcXq+_`>{Lx%9Bs{7_OP3IzY`;=pTi2f4IdJ{9M-3NTF;BO<9QB=V7JhyHH}UR*roL_K<C|<#KRn)
33?l17J4+~;R>lSE<PzI@ojlNhjHI}v+1^5aNc9#8u|g-Y$%>&yci78W<x7N`Z9gg`U<+I!t)Y!hd|#PUs_kOG4ZQx0_$t~m7sb7
hz5kk8?lRtbv8bu#3-!t`I|xk4PpGcMKjhpe6i^~?iK7ovbGwZ_;%KeqvU_fdY(OE_MKbjfbKnwP7!p;KHnG-P@V1;5$9+()0C++
e0ekxeV~iJff)>lwPh?_j-u#7X;i5}8e!Yj*))1K8Gl5M$m8_!QGq>YBbvU&@zLEB){O4;F^2GT3#HW-A}mSQDHzh>6w6Yo=F7g#
C$WtcT4U4F0*tj37$7$Y>pU0`4UK;ORFxA<jdZut)p~IDnJ2C<t`ArR&4BF}3iT&BDaKd~Rm6!90|vTgVJYR(s^vS@6U22cC>u&B
4BC9-$a4jet`12K7A*-FNh1oZud(RS%ee~)QzEo%EY@8`l5wGmB|<ptT2OBcoVsP0faA_-rr7;LbEs<0FUkQwvX7F1PzB@4ALCB=
#RUIF8rZ-)?6g!YT?|fHMpiqxl)4R*LRwFvE@^nm(z;q!Fr(v^#wIuGANMbHTO{ivBN^<+YO6gi+|(Ue_L{l%7Ft;sna!G3vJY&A
g1u~xgUdb52xAl06rGIfnfGH^+4vzRY~adBd4Qo%BWoO;Y5UOxz#`Sww{B_p<PaK|ebh}>Xc5C4c5AM|IVksx-yB@@^{)HyaQvn6
9lFaeo9#pDez||cV8q@v2aEe<FvM6siyvFJrh-sLhIQys-FJuyVGd$b{VN}5jW^2TCTmrJN=GO4e7MRSIbAyE-@*sQ0COuzy;WRQ
{i-U8Ffdjz`EbKrE!R-}EhR3Gqc}P@tkVO8X9V3!beB9)uG5@+HHGqHddT;mV18ZBW~DYR!=)1<2#90#YZ^q?YH8+0KdWHoxis?Y
c@el8RK{;XVX*2n8&30M{}fvRJ~4svZ+LlWatt!8WCA9M^rTDXTNk;IT85Uupo<R~g)Ub1L13yl&CBLOQCuy<fJ*+&SjMN%X4Il_
siH1ER?gsEzXY9Hl<2LZkI%Kwo-?)C=L3<?M_HgCd=`<!cA8}7`*CSe7<E!mrh*^-4d&1j6gCbt{6B$aCQ83Jx%{f!v;3h^b-3}^
0r48H>u;95=~}K;7q%neq3}rfqU&D@U*=~~qD3YTh2A!8`yXlh38vbmck7>O9=0eF?o2aX>D(SqSCh4jmz~HzJaH%|7G8@!d85tT
K0EYJ^iJKLL9z!6%|Lq+>66V($C-95s#%>=z^x;jL)N+0)cMc2y(4=s+L}7Y1DPy4olIqGb{XucmVzCOhP`R?t}>2^V1|TdZ`#9A
#0!l|ee>ruh;e5Oy(Ac3=0#@=-^`2kj8nT?QRxVo+ccZfvjz#n+?t(l_BJ(aVA`aK#ysE&$G%f3-aMl-88g~~C_$8$Vy&&h%i$mR
{g8wI^E`UWr9ca?3C9}R$&+Ft;lIESwrk|tg3teXtETy~2(+5|-{YV$J?i~sm4nT2jxYOiQE855xDB5;m7k!-DKZ@|S|l89tww0U
I#ZZKn}obg$$a5_4~NX*JV;#NlN8J}Xl1U;jf^p}T5>4ttSUJIr^>rH32jZyw6;&;Dc2e;kha2bOpDW&p(x3Pe9|mHkGE(b|Em_a
yWG?<A93nL&d!{Jj)WHE7D+8^XFJnE@E&4X)!j?^w=frX)FB)SvoN;nLRM4K9Lx%66)qqxBsuIPfXZq}tAaR-@<4MCY8Px*Yq)$c
RaQIN(BT4;ELE`xmhHZT^&+du$&ey7HTKw~usYki)=G(Vs&%fk6C$mQIy-~nHa49>xw4Cl04*EZNNlm{a7xDISll5|FR`e@H@VsZ
7n0-*Z6?|v^ZYU3Ztu<OllN;<(&7Bl0jAEa@Q`1zn(_j2!eX!E#LS6E;k=M`Mz>QkUV!5^1k=Zs!s%gn*BqBC3GdPJZk^G|PXT17
ZF)?MEVQ@NKM9PomSs^#{cjaw`<eWj%W`S47*EIPPp&*r@~!&+Z|~1Z`Jc4-T>}VjJGO3-eCbc~pFBDLmQUXya{u<<m+SEO39pRF
!K;bx(eyQ0^)Ht6f*^TR&_9Zg?`n}<v6g5%nk`Kw`S;9=JL^~e5wCy0{Ie@d&pwKsrJL|*&<rk{Qx_dHKg2Aq$7|u8*h7sSa;x}#
skEDBF)v@iwb)9Zzm=}SZvPH!nU%ki2T5Ocurh-=|1N)MFOG`c>h<1dd)~mCm{YgYCHDzAPs8hej_w=%2ZNpRO}bayN!!$%xVd<M
ww106nrJ*OzxlZ>YT1q0gMX^S`VIMrJRr7K9>EJ}(#LwgxVNya`t+WtuxHI*50~HU`pE7FDsy93&tlg*r5iANlc>BiCgU54Zr9#r
vScpsyjO+iy(8$Tb%f{DdiY=X*0n*j9WQP1vg^g%`2D!%BJYKL+Vh@-w^y%w4ogd=V)yVfqPy=o;mwqu-bJ-;kKobVTF?6z_zZH(
"""
POINTS = [*range(0x40000), *range(0xE0000, 0xE1000)]    # the others are empty or private

def kind(database: Any, c: int) -> int:
    """Returns c's properties in `database`: combining class | (letter 1, number 2) << 8 | (is it a
    mark) << 10 | columns << 11. unicode_tables adds white space, 3 << 8, and the rest of bit 10."""
    combining, category = database.combining(chr(c)), database.category(chr(c))
    wide = category != "Cn" and database.east_asian_width(chr(c)) in "WF"
    return (combining | {"L": 1, "N": 2}.get(category[0], 0) << 8 | (combining > 0) << 10
            | (0 if category in ("Mn", "Me", "Cf") else 1 + wide) << 11)

def unicode_tables() -> Tuple[List[int], List[int], List[int], List[int]]:
    """Returns block, chars, decompositions, compositions: see Tokenizer in tokenizer.c. UNICODE has
    LEB128 numbers. Each array follows its size: lengths of runs, kinds of runs (0: as in 3.2, or
    1 + kind), then columns of decompositions as zigzag differences."""
    old, flat = unicodedata.ucd_3_2_0, itertools.chain.from_iterable
    packed = zlib.decompress(base64.b85decode("".join(UNICODE.split())))
    numbers = iter([sum((byte & 127) << 7 * i for i, byte in enumerate(leb))
                    for leb in re.findall(rb"(?s)[\x80-\xff]*[\0-\x7f]", packed)])
    lengths, kinds, *columns = [[*itertools.islice(numbers, n)] for n in numbers]
    table = [1 << 11] * 0x110000
    for c, new in zip(POINTS, flat(map(itertools.repeat, kinds, lengths))):
        table[c] = new - 1 if new else kind(old, c)

    pairs = {c: parts for c, *parts in zip(*(itertools.accumulate(
        -(d + 1 >> 1) if d % 2 else d >> 1 for d in column) for column in columns))}
    for c in POINTS:
        parts = old.decomposition(chr(c))
        if parts and parts[0] != "<":   # <...> is a compatibility decomposition, none of NFC's
            pairs[c] = [*(int(part, 16) for part in parts.split()), 0][:2]
    for i in range(11172):              # Hangul syllables: two or three jamo
        lead, final = i // 28, i % 28
        pairs[0xAC00 + i] = [0xAC00 + i - final, 0x11A7 + final] if final else [
            0x1100 + lead // 21, 0x1161 + lead % 21]
    # NFC composes c if 3.2 composes it or lacks it, unless first or c is a mark.
    composed = sorted((first, second, c) for c, (first, second) in pairs.items() if second and (
        old.normalize("NFC", chr(c)) == chr(c) and not (table[first] | table[c]) & 255))
    for c in {*pairs} - {c for _, _, c in composed} | {second for _, second, _ in composed}:
        table[c] |= 1 << 10
    blocks: Dict[Tuple[int, ...], int] = {}         # equal blocks are stored once
    block = [blocks.setdefault(tuple(table[start:start + 256]), len(blocks))
             for start in range(0, 0x110000, 256)]
    return block, [*flat(blocks)], [*flat((*pairs[c], c) for c in sorted(pairs))], [*flat(composed)]

def pack(letter: str, values: List[int]) -> bytes:
    return struct.pack(f"<{len(values)}{letter}", *values)

def tokenizer_section(tokenizer: Settings, vocab_size: int) -> Tuple[bytes, Dict[str, int]]:
    """Returns (the section, {text: id} of the added tokens)."""
    model = tokenizer.inside("model")
    check_pipeline(tokenizer, model)
    block, chars, decompositions, compositions = unicode_tables()
    tokens, added, flagged = read_tokens(tokenizer, model, vocab_size,
                                         lambda c: chars[block[c >> 8] * 256 + c % 256] >> 10 & 1)
    texts = [tokens.get(i, b"") for i in range(max(tokens) + 1)]
    starts = [0, *itertools.accumulate(map(len, texts))]
    byte_ids = {byte: model.values["vocab"][chr(c)] for c, byte in byte_alphabet().items()}
    merges = merge_table(model)
    section = bytearray(struct.pack(
        "<8I16s16x", len(texts), len(added), len(merges) // 16, len(chars) // 256,
        len(decompositions) // 3, len(compositions) // 3, starts[-1], 0, b"16.0.0"))
    for array in (pack("I", [byte_ids[byte] for byte in range(256)]), pack("I", starts),
                  pack("I", flagged), merges, pack("H", block), pack("H", chars),
                  pack("I", decompositions), pack("I", compositions), b"".join(texts)):
        section += bytes(-len(section) % ALIGN) + array
    return bytes(section), added

# -- safetensors -----------------------------------------------------------------------------------

def read_tensor_list(path: str) -> Dict[str, Tensor]:
    """Returns the tensors of one file: u64 length of a header, the header as JSON {name: {dtype,
    shape, data_offsets}}, data without gaps."""
    with open_input(path) as file:
        file_size = os.fstat(file.fileno()).st_size
        start = 8 + int.from_bytes(file.read(8), "little")
        refuse_if(not 8 < start <= min(file_size, MAX_JSON), "not a safetensors file, or truncated",
                  path, AGAIN)
        header = parse_json(file.read(start - 8).decode("utf-8", "replace"), path)
    header.values.pop("__metadata__", None)
    tensors, end = {}, start
    for name in header.values:
        entry = header.inside(name)
        shape, offsets = entry.get("shape", list), entry.get("data_offsets", list)
        ok = len(offsets) == 2 and all(type(n) is int and n >= 0 for n in shape + offsets)
        refuse_if(not ok, "malformed shape or data_offsets", entry.path, AGAIN)
        tensors[name] = Tensor(path, name, entry.get("dtype", str), shape, start + offsets[0],
                               offsets[1] - offsets[0])
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.size)):
        refuse_if(tensor.offset != end or tensor.size < 0, "data_offsets of "
                  f"{brief.repr(tensor.name)} leave a gap or overlap", path, AGAIN)
        end += tensor.size
    refuse_if(end != file_size, f"truncated or damaged, {file_size} bytes instead of {end}", path,
              AGAIN)
    return tensors

def find_tensors(directory: str) -> Dict[str, Tensor]:
    """Returns all tensors of model.safetensors, or else of the shards that its index names, or of
    shards without an index, by the names that `transformers` stores."""
    files = sorted(os.listdir(directory))
    shards = [name for name in files if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
    weight_map = None
    if "model.safetensors" in files:
        shards = ["model.safetensors"]
    elif "model.safetensors.index.json" in files:
        index = read_json(directory, "model.safetensors.index.json")
        weight_map = index.get("weight_map", dict)
        for shard in weight_map.values():
            refuse_if(shard not in files, f"weight_map has {brief.repr(shard)}, which is no file "
                      "there", index.path, COMPLETE)
        shards = sorted(set(weight_map.values()))
    else:
        pickled = any(name.startswith("pytorch_model") for name in files)
        refuse_if(not shards or len(shards) != int(re.findall(r"\d+", shards[0])[1]),
                  "no model.safetensors" + (", only pickled weights" if pickled else ""), directory,
                  "take a checkpoint with weights in safetensors files, not only an adapter")
    tensors: Dict[str, Tensor] = {}
    for shard in shards:
        for stored, tensor in read_tensor_list(os.path.join(directory, shard)).items():
            name = re.sub(r"^(model\.)*(?=embed_tokens|layers|norm)", "model.", stored)
            refuse_if(name in tensors or weight_map and weight_map.get(stored) != shard,
                      f"{brief.repr(stored)} is in {shard}, too, or not in weight_map", directory,
                      AGAIN)
            tensors[name] = tensor
    return tensors

def tensor_shapes(c: Config) -> Iterator[Tuple[str, List[int]]]:
    """Yields (name, shape) of the tensors in the order in which the forward pass meets them."""
    q_dim, kv_dim = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    yield "model.embed_tokens.weight", [c.vocab_size, c.dim]
    for layer in (f"model.layers.{i}." for i in range(c.n_layers)):
        yield layer + "input_layernorm.weight", [c.dim]
        for name, rows in (("q", q_dim), ("k", kv_dim), ("v", kv_dim)):
            yield layer + f"self_attn.{name}_proj.weight", [rows, c.dim]
            if c.qkv_bias:
                yield layer + f"self_attn.{name}_proj.bias", [rows]
        for name in ("q_norm", "k_norm")[:2 * c.qk_norm]:
            yield layer + f"self_attn.{name}.weight", [c.head_dim]
        yield layer + "self_attn.o_proj.weight", [c.dim, q_dim]
        yield layer + "post_attention_layernorm.weight", [c.dim]
        for name in ("gate", "up"):
            yield layer + f"mlp.{name}_proj.weight", [c.hidden_dim, c.dim]
        yield layer + "mlp.down_proj.weight", [c.dim, c.hidden_dim]
    yield "model.norm.weight", [c.dim]
    if not c.tied:
        yield "lm_head.weight", [c.vocab_size, c.dim]

def choose_tensors(c: Config, directory: str) -> Tuple[Config, List[Tensor]]:
    """Returns the shape as the stored tensors have it, and the tensors of the .bin in its order,
    each of the right shape and of a type that can be converted."""
    found, chosen = find_tensors(directory), []
    refuse_if(any(name.endswith((
        ".qweight", ".scales", ".qzeros", ".weight_scale", ".weight_scale_inv", ".absmax",
        ".weight_packed")) for name in found), "quantised tensors", directory, UNQUANTISED)
    head, embedding = (found.get(name) for name in ("lm_head.weight", "model.embed_tokens.weight"))
    if c.tied and head and not embedding:
        found["model.embed_tokens.weight"] = found.pop("lm_head.weight")
    elif c.tied and head and any(a != b for a, b in zip(
            convert_tensors([head]), convert_tensors([embedding]))):
        c = c._replace(tied=False)
        say("note: lm_head.weight differs from the embedding and is used, though config.json says "
            "tied, as transformers 5.24 does", directory)
    if c.qkv_bias and not any(name.endswith("_proj.bias") for name in found):
        c = c._replace(qkv_bias=False)
    for name, shape in tensor_shapes(c):
        refuse_if(name not in found, f"tensor {name} is missing", directory, COMPLETE)
        tensor = found.pop(name)
        refuse_if(tensor.shape != shape
                  or tensor.size != math.prod(shape) * DTYPE_SIZE.get(tensor.dtype, 0),
                  f"tensor {tensor.name} has the dtype {brief.repr(tensor.dtype)}, the shape "
                  f"{brief.repr(tensor.shape)} and {tensor.size} bytes", tensor.path,
                  f"by config.json it should have the shape {shape}, in BF16, F16 or F32")
        chosen.append(tensor)
    unused = sorted(n for n in found if n != "lm_head.weight" and not n.endswith(".inv_freq"))
    if unused:                          # an unused lm_head.weight or inv_freq is common: no note
        say(f"note: {len(unused)} tensors are no part of the architecture and left out, "
            f"{brief.repr(unused[0])} first", directory)
    return c, chosen

# -- Weights ---------------------------------------------------------------------------------------

def has_nonfinite(data: bytes, width: int) -> bool:
    """Whether little-endian BF16 (width 2) or F32 (4) hold an infinity or a NaN: an exponent of all
    ones. Its top byte is 0x7F or 0xFF, which no number below 2^127 has, so a search is fast."""
    top = data[width - 1::width]
    return (0x7F in top or 0xFF in top) and any(
        high & 0x7F == 0x7F and low & 0x80 for high, low in zip(top, data[width - 2::width]))

def bf16_to_f32(data: bytes) -> bytes:
    """A bf16 is the upper half of a float."""
    wide = bytearray(2 * len(data))
    wide[2::4], wide[3::4] = data[::2], data[1::2]
    return wide

def f32_to_bf16(data: bytes) -> bytes:
    """Rounds to nearest, ties to even: the upper half of x + 0x7FFF + (the last bit that stays).
    All numbers at once, as one long integer: no finite float carries into its neighbour."""
    x = int.from_bytes(data, "little")
    ones = int.from_bytes(b"\1\0\0\0" * (len(data) // 4), "little")
    rounded = (x + 0x7FFF * ones + (x >> 16 & ones)).to_bytes(len(data), "little")
    narrow = bytearray(len(data) // 2)
    narrow[::2], narrow[1::2] = rounded[2::4], rounded[3::4]
    return narrow

def convert(data: bytes, tensor: Tensor) -> bytes:
    """Matrices become BF16, norms and biases F32."""
    dtype = tensor.dtype
    if dtype == "F16":
        n = len(data) // 2
        data, dtype = struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", data)), "F32"
    refuse_if(has_nonfinite(data, DTYPE_SIZE[dtype]),
              f"tensor {tensor.name} holds NaN or infinity", tensor.path, AGAIN)
    if len(tensor.shape) == 1 and dtype == "BF16":
        data = bf16_to_f32(data)
    if len(tensor.shape) == 2 and dtype == "F32":
        data = f32_to_bf16(data)
        refuse_if(has_nonfinite(data, 2), f"tensor {tensor.name} holds a number too large for "
                  "bf16", tensor.path, "take a checkpoint in BF16")
    return data

def convert_tensors(tensors: List[Tensor]) -> Iterator[bytes]:
    """Yields the weights section piece by piece, each tensor aligned."""
    end = 0
    for tensor in tensors:
        yield bytes(-end % ALIGN)
        end += -end % ALIGN
        step = CHUNK if tensor.dtype == "BF16" else CHUNK // 16     # conversions take much memory
        with open_input(tensor.path) as file:
            file.seek(tensor.offset)
            for done in range(0, tensor.size, step):
                size = min(step, tensor.size - done)
                data = file.read(size)
                refuse_if(len(data) != size, "the file shrank while it was read", tensor.path,
                          "run the export again")
                data = convert(data, tensor)
                yield data
                end += len(data)

def write_weights(out: Any, pieces: Iterator[bytes], total: int) -> None:
    """Writes the pieces. Draws a bar on a terminal."""
    done, shown = 0, time.monotonic()
    for piece in pieces:
        out.write(piece)
        done += len(piece)
        if fancy and time.monotonic() - shown > 0.1:
            shown = time.monotonic()
            bar = "#" * (30 * done // total)
            show(f"\r[{bar:30}] {done / 1e9:.2f} of {total / 1e9:.2f} GB\x1b[K")

# -- The file --------------------------------------------------------------------------------------

def check_out(out_path: str, directory: str) -> None:
    """Refuses to replace what is no regular file, and a file of the checkpoint, under any name."""
    if not os.path.exists(out_path):
        return
    refuse_if(not os.path.isfile(out_path), "not a regular file", out_path,
              "give the name of a file to write")
    with open(out_path, "rb") as file:
        ours = file.read(8) == b"qwen.c\n\0"    # an earlier export may lie there
    refuse_if(not ours and any(os.path.samestat(os.stat(out_path), entry.stat())
                               for entry in os.scandir(directory) if os.path.exists(entry.path)),
              "this would replace a file of the checkpoint itself", out_path, "choose another name")

def export(directory: str, out_path: str, kind: Optional[str] = None) -> None:
    """Writes the checkpoint in `directory` to `out_path`. `kind`, "base" or "chat", overrides what
    the checkpoint says of itself. Raises Refusal or OSError, and then the unfinished file is
    `temporary`."""
    global temporary, complete
    config = read_json(directory, "config.json")
    c = read_config(config)
    check_out(out_path, directory)
    eos, generation = read_generation(directory, config, c.vocab_size)
    c, tensors = choose_tensors(c, directory)
    files = os.listdir(directory)
    refuse_if("vocab.json" in files and "tokenizer.json" not in files,
              "vocab.json without tokenizer.json", directory, "make one with transformers: "
              "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
    section, added = tokenizer_section(read_json(directory, "tokenizer.json"), c.vocab_size)
    for dtype in sorted({t.dtype for t in tensors if len(t.shape) == 2} - {"BF16"}):
        say(f"note: {dtype} matrices are rounded to the nearest bf16", directory)

    tokenizer_config = read_json(directory, "tokenizer_config.json", optional=True)
    framing, system = read_template(directory, tokenizer_config)
    kind = kind or ("chat" if added["<|im_end|>"] in eos else "base")
    tokenizer_eos = read_tokenizer_eos(tokenizer_config, added, eos, kind)
    name = os.path.basename(os.path.abspath(directory))
    padding = bytes(-len(section) % ALIGN)
    weights_offset = 1152 + len(section + padding)
    file_size = weights_offset
    for tensor in tensors:              # matrices as bf16, norms and biases as float32
        width = 2 if len(tensor.shape) == 2 else 4
        file_size += -file_size % ALIGN + math.prod(tensor.shape) * width
    header = struct.pack(
        "<8sII5QII8IIfdIIIIIIIIIIIIfIfffI32II64s768s4x", b"qwen.c\n\0", 2, 1152, file_size, 1152,
        len(section), weights_offset, file_size - weights_offset, 0, 0, *c, kind == "chat",
        *framing, *(added[text] for text in SPECIAL), tokenizer_eos, *generation, len(eos), *eos,
        *[0] * (32 - len(eos)), len(system),
        name.encode("utf-8", "replace")[:63].decode("utf-8", "ignore").encode(), system)

    temporary = os.path.join(os.path.dirname(out_path), f"export-{os.urandom(6).hex()}.tmp")
    try:
        out = open(temporary, "xb")
    except OSError as error:
        temporary = ""                  # it is somebody else's, or was never made
        raise OSError(error.errno, error.strerror, out_path) from None
    with out:
        out.write(header + section + padding)
        write_weights(out, convert_tensors(tensors), file_size - weights_offset)
    complete = True
    os.replace(temporary, out_path)
    say(out_path, f"{name}, {kind}, {c.n_layers} layers of {c.dim}, vocabulary {c.vocab_size}, "
                  f"{file_size / 1e6:.1f} MB")

def main() -> int:
    def error(message: str) -> NoReturn:
        say(message, "see --help")
        sys.exit(2)

    parser = argparse.ArgumentParser(prog="export.py", allow_abbrev=False,
                                     description=__doc__.split("\n\n")[0])
    parser.error = error                # of one line
    parser.add_argument("directory", metavar="CHECKPOINT_DIR",
                        help="holds config.json, tokenizer.json, model.safetensors")
    parser.add_argument("out", metavar="OUT.bin", help="the file to write")
    parser.add_argument("--kind", choices=("base", "chat"),
                        help="how ./qwen runs it by default, if not as the checkpoint says")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:      # nohup ignores SIGHUP
            signal.signal(number, interrupted)
    warnings.simplefilter("ignore")     # \q in a string of a template is no error
    try:
        export(args.directory, args.out, args.kind)
        return 0
    except Refusal as error:
        say(*error.args)
    except OSError as error:
        path = args.out if error.filename in (None, temporary) else str(error.filename)
        say(str(error.strerror), path,
            "free some space" if error.errno == errno.ENOSPC else
            "the link leads nowhere: " + AGAIN if os.path.islink(path) else
            "check that it exists, and its permissions")
    finally:
        remove_temporary()
    return 1

if __name__ == "__main__":
    sys.exit(main())
