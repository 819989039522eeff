"""Writes tests/qwen_golden.json: what `transformers` makes of the models of models.py in float32.

    python3 tests/qwen_golden.py

A part of the logits, greedy texts, distributions after its logits processors, and the ids of chats
by the chat templates. Needs torch, transformers and jinja2; no part of test_all.sh.
"""
from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any, Dict, List

os.environ["HF_HUB_OFFLINE"] = "1"
sys.dont_write_bytecode = True
import models                                           # noqa: E402
import torch                                            # noqa: E402
import transformers                                     # noqa: E402
from make_checkpoint import make_checkpoint             # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "qwen_golden.json")
SURE = 0.01                 # by so much the best logit leads at every step of a greedy text


def load(directory: str) -> Any:
    """The model in float32, its matrices rounded to bf16 as export.py rounds them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager")
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.to(torch.bfloat16).float()
    return model.eval()


def logits_of(model: Any, ids: List[int]) -> torch.Tensor:
    """[len(ids)][vocab_size]"""
    return model(torch.tensor([ids])).logits[0]


def greedy(model: Any, ids: List[int]) -> List[int]:
    """The most likely continuation, as far as it is beyond doubt."""
    new: List[int] = []
    for _ in range(models.N_GREEDY):
        best = torch.topk(logits_of(model, ids + new)[-1], 2)
        if best.values[0] - best.values[1] < SURE:
            break
        new.append(int(best.indices[0]))
    return new


def golden_logits(name: str, shape: Dict[str, Any]) -> Dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        make_checkpoint(directory, **shape)
        model = load(directory)
    prompts = []
    columns = models.sampled_columns(model.config.vocab_size)
    for length in models.prompt_lengths(name):
        ids = models.random_ids(name, length, model.config.vocab_size)
        logits = logits_of(model, ids)
        rows = [[round(float(x), 5) for x in logits[at, columns]] + [int(logits[at].argmax())]
                for at in models.sampled_positions(length)]
        text = greedy(model, ids) if length < 100 else []
        prompts.append({"length": length, "rows": rows, "greedy": text})
    assert max(len(p["greedy"]) for p in prompts) == models.N_GREEDY, \
        f"{name}: no greedy text is sure: take another seed"
    return {"std": round(float(logits.std()), 3), "prompts": prompts}


def golden_distribution(case: models.Case) -> List[float]:
    """Probabilities after the logits processors, in the order in which generate() applies them."""
    processors: List[Any] = []
    if case.penalty != 1:
        processors.append(transformers.RepetitionPenaltyLogitsProcessor(case.penalty))
    if case.temperature != 1:
        processors.append(transformers.TemperatureLogitsWarper(case.temperature))
    if case.top_k > 0:
        processors.append(transformers.TopKLogitsWarper(case.top_k))
    if case.top_p < 1:
        processors.append(transformers.TopPLogitsWarper(case.top_p))
    if case.min_p > 0:
        processors.append(transformers.MinPLogitsWarper(case.min_p))
    ids = torch.tensor([list(case.prompt.encode())])    # a byte's id is the byte
    scores = torch.tensor([models.sampling_logits(case.prompt[-1])])
    for processor in processors:
        scores = processor(ids, scores)
    return [float(f"{p:.6g}") for p in torch.softmax(scores[0], -1)]


def golden_chat(chat: models.Chat) -> List[List[int]]:
    """The ids of each turn's prompt, with all before it, by the template."""
    messages = [{"role": "system", "content": chat.system}] if chat.system is not None else []
    turns = []
    with tempfile.TemporaryDirectory() as directory:
        models.BUILDERS[chat.model](directory)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for text in models.QUESTIONS:
        messages.append({"role": "user", "content": text})
        turns.append(list(tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=not chat.no_think)["input_ids"]))
        messages.append({"role": "assistant", "content": chat.answer})
    return turns


def main() -> None:
    golden = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "logits": {name: golden_logits(name, shape) for name, shape in models.SHAPES.items()},
        "sampling": {name: golden_distribution(case) for name, case in models.CASES.items()},
        "chats": {name: golden_chat(chat) for name, chat in models.CHATS.items()},
    }
    with open(OUT, "w", encoding="utf-8") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")
    for name, model in golden["logits"].items():
        lengths = [len(p["greedy"]) for p in model["prompts"]]
        print(f"{name}: standard deviation {model['std']}, greedy {lengths}")
    print(f"{OUT}: {os.path.getsize(OUT)} bytes")


if __name__ == "__main__":
    with torch.no_grad():
        main()
