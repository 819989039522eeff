"""Compares ./qwen with the `transformers` library on a checkpoint of yours. For the person who
doubts.

    python3 tests/conformance.py CHECKPOINT_DIR [--qwen ./qwen]

The reference computes in float32 with eager attention on the CPU. Prints a table; exit status 1 if
something differs. Needs torch, transformers and a C compiler, so it is no part of test_all.sh. For
1.8B it takes 8 GB of memory, 5 GB in the folder for temporary files (TMPDIR), and some minutes.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from typing import Any, Dict, Iterator, List, Sequence, Tuple

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
import transformers  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tests"))
import binfile  # noqa: E402

PROMPT, NEW, TURN, DRAWS = 1000, 100, 40, 100_000  # tokens of each, and draws of a sampler
# of a logit, where logits have a standard deviation of 2
TOLERANCE = 1e-3

QUESTION = "What colour is an apple? 苹果是什么颜色？"
CHAT = ("What colour is an apple?", "\n\nAnd the sky at night?  ", "苹果是什么颜色？\n")
LINES = """\
The quick brown fox doesn't jump; it's the lazy dog that'll {n} times say: "WE'VE HAD ENOUGH".
苹果是什么颜色？第{n}个苹果是红色的，天空是蓝色的。你好，世界！
for (int i = 0; i < {n}; i++) {{\n\tsum += a[i] * b[i];   // {n}.5e-3\n}}
naïve café, Ærøskøbing, Größe, ½ of {n} is ②; cafe\u0301 composed; \u00a0\u3000wide and \
narrow
spaces\u2028 Привет, мир {n}! Καλημέρα κόσμε. שלום עולם. \
مرحبا بالعالم. नमस्ते दुनिया। \
สวัสดีชาวโลก
안녕하세요 こんにちは 👍🏽 \
👩‍👩‍👧 🇨🇳 {n} ☃\ufe0f ∑∫√ → x² ≤ {n}
    {{"key": [1, 2, {n}], "url": "https://example.org/?q={n}&r=%20"}}\r\n\r\n
<|im_start|>user\nWho wrote number {n}?<|im_end|>\n"""

# of the table: what, the result in words, whether both agree
Row = Tuple[str, str, bool]

FLAGS = {
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repetition_penalty": "--repeat-penalty",
}
SAMPLER = r"""
#define main qwen_main
#include "qwen.c"
#undef main

/* sampler DRAWS ROW LOGITS.f32 MODEL.bin --ids "..." [flags of ./qwen]
 * Prints ids that are drawn from a row of logits after a prompt. */
int main(int argc, char **argv) {
    parse_options(argc - 3, argv + 3);
    Model *m = map_model(o.model);
    Session s = new_session(m, 1);
    size_t size = (size_t)m->header.vocab_size;
    float *logits = malloc(size * sizeof *logits);
    FILE *file = fopen(argv[3], "rb");
    if (!logits || !file || fseeko(file, (off_t)(size * sizeof *logits) * atoi(argv[2]), SEEK_SET)
        || fread(logits, sizeof *logits, size, file) != size)
        die(1, "cannot read: %s", argv[3]);
    read_ids(o.ids, "--ids", (uint32_t)size, &s.history);
    for (int i = atoi(argv[1]); i > 0; i--)
        printf("%d\n", sample(&s.sampler, logits, (int)size, &s.history));
    return 0;
}
"""


class Skip(Exception):
    """Why something cannot be compared with this checkpoint."""


def run(*command: str) -> str:
    """Standard output of a program that must succeed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    if done.returncode:
        sys.exit(
            f"conformance.py: exit status {done.returncode}: {' '.join(command)[:200]}: "
            + done.stderr.strip()
        )
    return done.stdout


def join(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def read_tables(output: str) -> List[List[int]]:
    """The ids in the tables of --watch or --score, one list for each table."""
    tables: List[List[int]] = []
    for line in output.split("\n"):
        if line.startswith("n\t"):
            tables.append([])
        elif "\t" in line:
            tables[-1].append(int(line.split("\t")[1]))
    return tables


class Reference:
    """The checkpoint in `transformers`, its matrices rounded to bf16 as export.py rounds them."""

    def __init__(self, directory: str):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.own = self.model.generation_config
        for weight in self.model.parameters():
            if weight.dim() == 2:
                weight.data.copy_(weight.data.bfloat16())

    def encode(self, text: str) -> List[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """[len(ids)][vocab_size]"""
        return self.model(torch.tensor([ids])).logits[0]

    def generate(self, ids: Sequence[int], **settings: Any) -> Tuple[List[int], List[torch.Tensor]]:
        """(new ids, for each the scores [vocab_size] it was chosen by): the checkpoint's own
        settings and these."""
        config = copy.deepcopy(self.own)
        config.update(
            return_dict_in_generate=True,
            output_scores=True,
            pad_token_id=0,
            max_length=None,
            **settings,
        )
        self.model.generation_config = config
        prompt = torch.tensor([ids])
        out = self.model.generate(prompt, attention_mask=torch.ones_like(prompt))
        return out.sequences[0, len(ids) :].tolist(), [scores[0] for scores in out.scores]


class Comparison:
    """Both sides of one checkpoint; each method that yields lines of the table compares one
    thing."""

    def __init__(self, directory: str, qwen: str, folder: str):
        self.qwen, self.folder, self.model = qwen, folder, os.path.join(folder, "model.bin")
        run(sys.executable, os.path.join(ROOT, "export.py"), directory, self.model)
        self.reference = Reference(directory)
        self.context = self.reference.model.config.max_position_embeddings
        self.logits_path = os.path.join(folder, "logits.f32")
        self.tolerance = TOLERANCE

    def ours(self, *args: str) -> str:
        return run(self.qwen, self.model, *args)

    def prompt(self) -> str:
        """Mixed text of as many tokens as the context allows, at most PROMPT."""
        text, limit = "", min(PROMPT, self.context)
        for n in range(7, PROMPT):
            if len(self.reference.encode(text)) > limit:
                break
            text += LINES.format(n=n * n)
        while len(self.reference.encode(text)) > limit:
            text = text[:-1]
        return text + "7" * (limit - len(self.reference.encode(text)))  # each digit is a token

    def compare_logits(self) -> Iterator[Row]:
        text = self.prompt()
        wanted = self.reference.encode(text)
        (ids,) = read_tables(
            self.ours("-m", "base", "-p", text, "--score", "--logits", self.logits_path)
        )
        n_equal = sum(a == b for a, b in zip(ids, wanted))
        yield "ids", f"{n_equal} of {len(wanted)} equal", ids == wanted
        self.ids = ids
        theirs = self.reference.logits(ids)
        ours = torch.from_file(self.logits_path, size=theirs.numel()).view_as(theirs)
        largest, deviation = (
            max((a - b).abs().max().item() for a, b in zip(ours, theirs)),
            theirs.std().item(),
        )
        self.tolerance = TOLERANCE * max(1.0, deviation / 2)
        same = (ours.argmax(1) == theirs.argmax(1)).sum().item()
        fits = largest <= self.tolerance
        yield "logits", f"differ by {largest:.1e} at most, standard deviation {deviation:.2f}", fits
        yield "", f"the same most likely token at {same} of {len(ids)} positions", fits
        # For the sampler: where, early in the text, the most tokens are likely.
        early = torch.log_softmax(theirs[:100], 1)
        self.unsure = (early.exp() * early).sum(1).argmin().item()

    def agreement(self, ours: List[int], prompt: List[int], **settings: Any) -> Tuple[str, bool]:
        """Compares a greedy continuation. Where the reference's two best are within the tolerance,
        both are right."""
        theirs, scores = self.reference.generate(prompt, do_sample=False, **settings)
        if ours == theirs:
            return f"{len(ours)} of {len(theirs)} equal", True
        at = next(i for i in range(len(theirs)) if ours[i : i + 1] != theirs[i : i + 1])
        gap = (scores[at].max() - scores[at][ours[at]]).item() if at < len(ours) else math.inf
        return (
            f"{at} of {len(theirs)} equal; there the reference has ours {gap:.1e} below its best",
            gap <= 2 * self.tolerance,
        )

    def compare_greedy(self) -> Iterator[Row]:
        prompt = self.reference.encode(QUESTION)
        n = min(NEW, self.context - len(prompt))
        own = self.reference.own.repetition_penalty or 1.0
        for penalty in sorted({1.0, own}):
            (ids,) = read_tables(
                self.ours(
                    "--ids",
                    join(prompt),
                    "--greedy",
                    "--repeat-penalty",
                    str(penalty),
                    "--ignore-stop",
                    "-n",
                    str(n),
                    "--watch",
                )
            )
            text, same = self.agreement(
                ids, prompt, repetition_penalty=penalty, eos_token_id=None, max_new_tokens=n
            )
            yield f"greedy, penalty {penalty:g}", text, same

    def compare_settings(self) -> Iterator[Row]:
        """The defaults in the .bin's header: where generation ends, and how tokens are sampled."""
        with open(self.model, "rb") as file:
            header = file.read(binfile.HEADER_SIZE)
        own = self.reference.own
        eos = own.eos_token_id if own.eos_token_id is not None else []
        eos = eos if isinstance(eos, list) else [eos]
        n_eos = binfile.get(header, "n_eos")
        ours = [binfile.get(header, f"eos{i}") for i in range(n_eos)]
        yield "stop tokens", f"{ours}", ours == list(dict.fromkeys(eos))
        defaults = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0,
                    "repetition_penalty": 1.0, "do_sample": False, "max_new_tokens": 0}
        for name, default in defaults.items():
            value = getattr(own, name, None)
            value = default if value is None else max(0, value)
            ours = binfile.get(header, name)
            yield name, f"{ours:g}", math.isclose(ours, value, rel_tol=1e-6)

    def frame(self, *flags: str) -> List[int]:
        """The ids of the prompt as ./qwen frames it."""
        return read_tables(self.ours("-m", "chat", "--score", *flags))[0]

    def compare_framing(self) -> Iterator[Row]:
        """Chats as apply_chat_template has them: with the default system message, another one,
        white space at both ends, text that looks like special tokens."""
        tokenizer = self.chat_tokenizer()
        for name, system, question in (
                ("default system message", None, "What colour is an apple?"),
                ("a system message", " Be brief.\n", "苹果是什么颜色？"),
                ("white space", None, "\n\n  What colour?\t\n"),
                ("<think> in a question", None, "What is <think>?")):
            messages = [{"role": "user", "content": question}]
            if system is not None:
                messages.insert(0, {"role": "system", "content": system})
            framed = tokenizer.apply_chat_template(messages, tokenize=False,
                                                   add_generation_prompt=True)
            flags = ("-s", system) if system is not None else ()
            ids, wanted = self.frame("-p", question, *flags), self.reference.encode(framed)
            yield f"framing, {name}", f"{len(wanted)} ids", ids == wanted
        if "</think>" in str(tokenizer.chat_template):
            framed = tokenizer.apply_chat_template(
                [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True,
                enable_thinking=False)
            if framed.endswith("<think>\n\n</think>\n\n"):
                ids = self.frame("-p", QUESTION, "--no-think")
                wanted = self.reference.encode(framed)
                yield "framing, --no-think", f"{len(wanted)} ids", ids == wanted

    def chat_tokenizer(self) -> Any:
        tokenizer = self.reference.tokenizer
        if not tokenizer.chat_template:
            raise Skip("the checkpoint has no chat template")
        if "<|im_start|>" not in str(tokenizer.chat_template):
            raise Skip("its chat template is not ChatML")
        return tokenizer

    def compare_chat(self) -> Iterator[Row]:
        """Framed by the chat template; what the model said stays in the conversation as the ids
        that it chose."""
        tokenizer = self.chat_tokenizer()
        stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        flags = [part for text in CHAT for part in ("-p", text)]
        turns = read_tables(self.ours("-m", "chat", "--greedy", "-n", str(TURN), "--watch", *flags))
        history: List[int] = []
        messages: List[Dict[str, str]] = []
        framed = ""
        for i, (text, ids) in enumerate(zip(CHAT, turns)):
            messages.append({"role": "user", "content": text})
            before, framed = framed, tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True)
            if not framed.startswith(before):
                raise Skip("its chat template writes earlier turns in another way later")
            history += self.reference.encode(framed[len(before) :])
            result, same = self.agreement(ids, history, eos_token_id=stops, max_new_tokens=TURN)
            yield f"chat, turn {i + 1}", result, same
            # The template closes an answer with <|im_end|>, so the one that the model
            # wrote is not needed twice.
            history += ids[:-1] if ids[-1] in stops else ids
            messages.append({"role": "assistant", "content": "answer"})
            framed += "answer"

    def draw(self, settings: Dict[str, float]) -> Counter:
        """How often each id is drawn at the unsure position; DRAWS in all, shared out among the
        processors."""
        flags = [part for name, value in settings.items() for part in (FLAGS[name], f"{value:g}")]
        n = math.gcd(DRAWS, os.cpu_count() or 1)
        command = [
            self.sampler,
            str(DRAWS // n),
            str(self.unsure),
            self.logits_path,
            self.model,
            "--ids",
            join(self.ids[: self.unsure + 1]),
            *flags,
        ]
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            outputs = pool.map(lambda seed: run(*command, "--seed", str(seed)), range(n))
            return Counter(int(i) for output in outputs for i in output.split())

    def compare_sampling(self) -> Iterator[Row]:
        self.sampler = os.path.join(self.folder, "sampler")
        with open(self.sampler + ".c", "w", encoding="utf-8") as file:
            file.write(SAMPLER)
        run(
            os.environ.get("CC", "cc"),
            "-O3",
            "-I" + ROOT,
            self.sampler + ".c",
            "-o",
            self.sampler,
            "-lm",
            "-pthread",
        )
        for name, settings in (
            ("own settings", {} if self.reference.own.do_sample else {"temperature": 1.0}),
            (
                "temperature alone",
                {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0},
            ),
            # so hot and so strong that a penalty on unlikely tokens shows, too
            (
                "temperature 5, penalty 3",
                {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 3.0},
            ),
            ("top-k 40, then top-p 0.9", {"temperature": 1.5, "top_k": 40, "top_p": 0.9}),
        ):
            _, (scores,) = self.reference.generate(
                self.ids[: self.unsure + 1], do_sample=True, max_new_tokens=1, **settings
            )
            outside, n_tokens, p = chi_squared(
                self.draw(settings), torch.softmax(scores.double(), 0)
            )
            yield (
                f"draws, {name}",
                f"{DRAWS} from {n_tokens} tokens, {outside} from others; chi-squared p = {p:.2g}",
                outside == 0 and p > 1e-4,
            )


def chi_squared(counts: Counter, probability: torch.Tensor) -> Tuple[int, int, float]:
    """(draws of tokens that have no probability, tokens that have one, chance of counts that fit so
    badly or worse). Likely tokens count each by itself, others together, so that 20 draws or more
    are expected of each group."""
    n = sum(counts.values())
    drawn = torch.zeros_like(probability)
    drawn[list(counts)] = torch.tensor(list(counts.values()), dtype=drawn.dtype)
    ids = [i for i in probability.argsort(descending=True).tolist() if probability[i] > 0]
    expected, drawn_of = n * probability[ids], drawn[ids]
    group = ((expected.cumsum(0) - expected) / 20).long().unique(return_inverse=True)[1]
    sums = torch.zeros(2, int(group[-1]) + 1, dtype=torch.double)
    sums[0].index_add_(0, group, expected)
    sums[1].index_add_(0, group, drawn_of)
    statistic = ((sums[1] - sums[0]) ** 2 / sums[0]).sum()
    freedom = sums.shape[1] - 1
    p = (
        torch.special.gammaincc(torch.tensor(freedom / 2, dtype=torch.double), statistic / 2).item()
        if freedom
        else 1.0
    )
    return n - int(drawn_of.sum()), len(ids), p


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("directory", metavar="CHECKPOINT_DIR")
    parser.add_argument(
        "--qwen",
        default=os.path.join(ROOT, "qwen"),
        help="the program (default: ./qwen beside export.py)",
    )
    args = parser.parse_args()
    if not os.path.exists(args.qwen):
        parser.error(f"no program {args.qwen}: run make")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    differs = False
    with tempfile.TemporaryDirectory(prefix="qwen-conformance-") as folder, torch.inference_mode():
        both = Comparison(args.directory, args.qwen, folder)
        c = both.reference.model.config
        print(
            f"{args.directory}: {c.num_hidden_layers} layers of {c.hidden_size}, "
            f"{c.num_attention_heads} heads, {c.num_key_value_heads} of keys, vocabulary "
            f"{c.vocab_size}, {'tied' if c.tie_word_embeddings else 'untied'}"
        )
        print(
            f"transformers {transformers.__version__}, torch {torch.__version__}: float32, eager "
            "attention, CPU\n",
            flush=True,
        )
        for name, compare in (
            ("logits", both.compare_logits),
            ("greedy", both.compare_greedy),
            ("settings", both.compare_settings),
            ("framing", both.compare_framing),
            ("chat", both.compare_chat),
            ("draws", both.compare_sampling),
        ):
            try:
                for row, result, same in compare():
                    differs |= not same
                    print(f"{row:34}{result:72}{'ok' if same else 'DIFFERS'}", flush=True)
            except Skip as why:
                print(f"{name:34}{str(why):72}skipped", flush=True)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
