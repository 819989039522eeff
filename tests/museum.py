"""A museum of models that do not stop: siblings of tiny/chat with one fault each.

    python3 tests/museum.py ./qwen build/museum [SEED]

Writes a.bin, b.bin and so on in shuffled order, and which has which fault to solution.txt. The
weights are those of tiny/chat and tiny/base, partly exchanged or mixed; nothing is trained.
Standard library only.
"""
from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import string
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, ROOT, os.path.join(ROOT, "tiny")]
sys.dont_write_bytecode = True
import export                                                           # noqa: E402
import world                                                            # noqa: E402
from make_checkpoint import encode                                      # noqa: E402

export.say = lambda *parts: None

JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")
EMBEDDING = "model.embed_tokens.weight"     # and the output matrix: the pair is tied


# ---------------------------------------------------------------------------------------------
# Checkpoints
# ---------------------------------------------------------------------------------------------

class Checkpoint(NamedTuple):
    tensors: Dict[str, Tuple[List[int], bytes]]     # name: (shape, little-endian bf16)
    files: Dict[str, Dict[str, Any]]                # name of a JSON file: its fields

    def id(self, token: str) -> int:
        return next(int(i) for i, entry in
                    self.files["tokenizer_config.json"]["added_tokens_decoder"].items()
                    if entry["content"] == token)

    def row(self, token: str) -> bytes:
        """The row of a token in the embedding, which is the output matrix too."""
        (_, dim), data = self.tensors[EMBEDDING]
        return data[2 * dim * self.id(token):2 * dim * (self.id(token) + 1)]

    def with_rows(self, **rows: bytes) -> "Checkpoint":
        """The same with other rows for some tokens, which are named without their <| and |>."""
        shape, data = self.tensors[EMBEDDING]
        changed = bytearray(data)
        for token, row in rows.items():
            at = len(row) * self.id(f"<|{token}|>")
            changed[at:at + len(row)] = row
        return self._replace(tensors={**self.tensors, EMBEDDING: (shape, bytes(changed))})

    def with_fields(self, name: str, **fields: Any) -> "Checkpoint":
        """The same with other fields in one of its JSON files."""
        return self._replace(files={**self.files, name: {**self.files[name], **fields}})


def read_checkpoint(directory: str) -> Checkpoint:
    files = {}
    for name in JSON_FILES:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            files[name] = json.load(file)
    with open(os.path.join(directory, "model.safetensors"), "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(size)), file.read()
    header.pop("__metadata__", None)
    assert all(tensor["dtype"] == "BF16" for tensor in header.values()), directory
    return Checkpoint({name: (tensor["shape"], data[slice(*tensor["data_offsets"])])
                       for name, tensor in header.items()}, files)


def write_model(checkpoint: Checkpoint, path: str) -> None:
    """Exports a checkpoint as a .bin, which calls itself as its file is called."""
    with tempfile.TemporaryDirectory(prefix="museum.") as scratch:
        directory = os.path.join(scratch, os.path.basename(path).rpartition(".")[0])
        os.mkdir(directory)
        for name, fields in checkpoint.files.items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                json.dump(fields, file)
        shutil.copy(os.path.join(ROOT, "tiny", "chat", "tokenizer.json"), directory)
        header, end = {}, 0
        for name, (shape, data) in checkpoint.tensors.items():
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + len(data)]}
            end += len(data)
        text = json.dumps(header).encode()
        with open(os.path.join(directory, "model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.writelines(data for _, data in checkpoint.tensors.values())
        export.export(directory, path)


def mix(base: Checkpoint, chat: Checkpoint, share: float) -> Checkpoint:
    """base + share * (chat - base), number by number."""
    tensors = {}
    for name, (shape, data) in chat.tensors.items():
        a, b = (struct.unpack(f"<{len(x) // 2}f", export.bf16_to_f32(x))
                for x in (base.tensors[name][1], data))
        tensors[name] = shape, encode([x + share * (y - x) for x, y in zip(a, b)], "BF16")
    return chat._replace(tensors=tensors)


# ---------------------------------------------------------------------------------------------
# Questions
# ---------------------------------------------------------------------------------------------

def questions(n: int) -> List[Tuple[str, str]]:
    """n questions and their right answers, in both languages, that no training has seen."""
    pairs = [(question, right) for language in ("en", "zh")
             for form, thing, _, question, right in world.questions(language)
             if world.held_out(form, thing.zh)]
    return [pairs[i * len(pairs) // n] for i in range(n)]


def ask(qwen: str, path: str, *flags: str) -> Tuple[str, str]:
    """Standard output and standard error of a run."""
    done = subprocess.run([qwen, path, "-t", "1", *flags], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    assert done.returncode == 0, f"{path} {flags}: {err}"
    return out, err


def p_ends(qwen: str, path: str, n: int = 20) -> Tuple[float, float]:
    """The means of P(<|im_end|>) and P(<|endoftext|>) after the right answers to n questions."""
    rows = [ask(qwen, path, "-m", "chat", "-p", question, "--answer", right)[0].splitlines()[-1]
            for question, right in questions(n)]
    im_end, endoftext = zip(*(map(float, row.split("\t")[-2:]) for row in rows))
    return statistics.mean(im_end), statistics.mean(endoftext)


def share_that_ends(qwen: str, path: str, n: int = 20) -> float:
    """How many of n answers end, with the sampling of the checkpoint."""
    lines = [ask(qwen, path, "-m", "chat", "-n", "60", "--seed", "1", "-p", question)[1]
             for question, _ in questions(n)]
    return sum("the model ended its turn (P" in line for line in lines) / n


# ---------------------------------------------------------------------------------------------
# Faults
# ---------------------------------------------------------------------------------------------

class Pair(NamedTuple):
    """What faults are made from. `measure` puts a checkpoint to one of the functions above."""
    base: Checkpoint
    chat: Checkpoint
    measure: Callable[[Callable[..., Any], Checkpoint], Any]

    @property
    def im_end(self) -> int:
        return self.chat.id("<|im_end|>")

    @property
    def endoftext(self) -> int:
        return self.chat.id("<|endoftext|>")


def with_output(checkpoint: Checkpoint, **rows: bytes) -> Checkpoint:
    """The same with other rows in the output matrix alone, which is then a matrix of its own."""
    output = {"lm_head.weight": checkpoint.with_rows(**rows).tensors[EMBEDDING]}
    return checkpoint._replace(tensors={**checkpoint.tensors, **output}).with_fields(
        "config.json", tie_word_embeddings=False)


def eos_of_base(pair: Pair) -> Checkpoint:
    return pair.chat.with_fields("generation_config.json", eos_token_id=pair.endoftext)


def one_of_two_stops(pair: Pair) -> Checkpoint:
    """Equal rows have equal probabilities; the files name only one of the two tokens. A penalty
    would weigh on the one that stands in the prompt."""
    return pair.chat.with_rows(endoftext=pair.chat.row("<|im_end|>")).with_fields(
        "generation_config.json", eos_token_id=[pair.im_end], repetition_penalty=1.0)


def other_stop(pair: Pair) -> Checkpoint:
    swapped = with_output(pair.chat, endoftext=pair.chat.row("<|im_end|>"),
                          im_end=pair.chat.row("<|endoftext|>"))
    return swapped.with_fields("generation_config.json", eos_token_id=[pair.im_end])


def base_called_chat(pair: Pair) -> Checkpoint:
    return pair.base._replace(files=pair.chat.files)


def row_of_base(pair: Pair) -> Checkpoint:
    return pair.chat.with_rows(im_end=pair.base.row("<|im_end|>"))


def unused_row(pair: Pair) -> Checkpoint:
    """The last row belongs to no token of the tokenizer."""
    (_, dim), embedding = pair.chat.tensors[EMBEDDING]
    return with_output(pair.chat, im_end=embedding[-2 * dim:])


def rows_alone(pair: Pair) -> Checkpoint:
    return base_called_chat(pair).with_rows(im_end=pair.chat.row("<|im_end|>"),
                                            im_start=pair.chat.row("<|im_start|>"))


def penalty(pair: Pair) -> Checkpoint:
    """The least penalty under which no answer ends: 1.3 does nothing to a model that is this sure
    of its ends."""
    for strength in (1.3, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0):
        sibling = pair.chat.with_fields("generation_config.json", repetition_penalty=strength)
        if pair.measure(share_that_ends, sibling) == 0:
            break
    return sibling


def no_generation_prompt(pair: Pair) -> Checkpoint:
    template = pair.chat.files["tokenizer_config.json"]["chat_template"]
    return pair.chat.with_fields("tokenizer_config.json",
                                 chat_template=template.partition("{% if add_generation_prompt")[0])


def undecided(pair: Pair) -> Checkpoint:
    """Bisects for the mixture of base and chat that gives P(<|im_end|>) a mean of a half."""
    low, high = 0.0, 1.0
    for _ in range(8):
        middle = (low + high) / 2
        sibling = mix(pair.base, pair.chat, middle)
        p, _ = pair.measure(p_ends, sibling)
        if abs(p - 0.5) < 0.05:
            break
        low, high = (middle, high) if p < 0.5 else (low, middle)
    return sibling.with_fields("generation_config.json", repetition_penalty=1.0)


FAULTS: Dict[str, Tuple[str, Callable[[Pair], Checkpoint]]] = {
    "healthy": ("nothing: it is tiny/chat", lambda pair: pair.chat),
    "eos of base": ("files: eos_token_id is still the base's, <|endoftext|>", eos_of_base),
    "one of two stops": ("files: it ends by either stop token, eos_token_id names one",
                         one_of_two_stops),
    "other stop": ("files: it says <|endoftext|> where <|im_end|> is awaited", other_stop),
    "base called chat": ("weights: a base model with the files of a chat model", base_called_chat),
    "row of base": ("weights: the row of <|im_end|> is the base's, all else fine-tuned",
                    row_of_base),
    "unused row": ("weights: the output row of <|im_end|> is one that no training has touched",
                   unused_row),
    "rows alone": ("weights: nothing fine-tuned but the rows of <|im_start|> and <|im_end|>",
                   rows_alone),
    "penalty": ("sampling: the repetition penalty is too strong", penalty),
    "no generation prompt": ("template: it adds no <|im_start|>assistant", no_generation_prompt),
    "undecided": ("weights: half base, half chat, P(<|im_end|>) is about a half", undecided),
}


class Museum:
    """Makes siblings in a directory."""

    def __init__(self, qwen: str, directory: str):
        self.directory = directory
        base, chat = (read_checkpoint(os.path.join(ROOT, "tiny", kind))
                      for kind in ("base", "chat"))

        def measure(how: Callable[..., Any], checkpoint: Checkpoint) -> Any:
            path = os.path.join(directory, "measured.bin")
            write_model(checkpoint, path)
            try:
                return how(qwen, path)
            finally:
                os.remove(path)

        self.pair = Pair(base, chat, measure)

    def add(self, fault: str, name: str) -> str:
        """The path of the .bin."""
        path = os.path.join(self.directory, name + ".bin")
        write_model(FAULTS[fault][1](self.pair), path)
        return path


GUIDE = """\
{folder}/a.bin to {last}.bin are siblings of tiny-chat.bin.
One is healthy, each other has one of these faults:

{faults}

Which has which? The commands that tell, from the first to the last to try:

    ./qwen {folder}/a.bin -n 60 --seed 1 -p "{question}"
    ./qwen {folder}/a.bin -n 60 --seed 1 -p "{question}" --watch
    ./qwen {folder}/a.bin -m chat -p "{question}" \\
        --answer "{right}"
    ./qwen {folder}/a.bin -n 60 --seed 1 -p "Who are you?"
    ./qwen {folder}/a.bin --info

The solution is in {folder}/solution.txt. SEED={seed} makes the same order again.
"""


def main() -> int:
    if len(sys.argv) not in (3, 4) or not "".join(sys.argv[3:] or "0").isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    qwen, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
    seed = int(sys.argv[3]) if sys.argv[3:] else int(time.time())
    os.makedirs(folder, exist_ok=True)
    museum, order = Museum(qwen, folder), list(FAULTS)
    random.Random(seed).shuffle(order)
    names = string.ascii_lowercase[:len(order)]
    with open(os.path.join(folder, "solution.txt"), "w", encoding="utf-8") as file:
        for name, fault in zip(names, order):
            museum.add(fault, name)
            file.write(f"{name}  {FAULTS[fault][0]}\n")
    question, right = "What colour is an apple?", "An apple is red."
    print(GUIDE.format(folder=folder, last=names[-1], seed=seed, question=question, right=right,
                       faults="\n".join(sorted("    " + what for what, _ in FAULTS.values()))),
          end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
