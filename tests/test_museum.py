"""The verdict on each model of the museum: who is to blame if it does not stop.

    python3 tests/test_museum.py [--only WORD] QWEN        (see harness.py)
"""
from __future__ import annotations

import collections
import functools
import re
import sys
from typing import Counter, List, NamedTuple

import harness
from harness import equal, run
from models import closing, scored_ids
from museum import Museum, p_ends, questions

N = 24                                  # questions that a model is asked
EOS = "is not among this checkpoint's eos_token_id: -m chat stops there"
P = r"\(P (?:[\d.]+|< 0\.000001)\)"
FORMS = {
    "ended": rf"the model ended its turn {P}",
    "document": rf"the model ended a document {P}",
    "no end": r"the model saw no end \(highest P\(<\|im_end\|>\) (?:[\d.]+|< 0\.000001), "
              r"token \d+\)",
    "thought": rf"the model thought of an end at token \d+ {P}",
    "chance": rf"at token \d+ <\|im_end\|> was the most likely {P}, chance took another",
    "penalty": rf"at token \d+ <\|im_end\|> was the most likely {P}, the repetition penalty took "
               "it away: try --repeat-penalty 1",
    "eos": rf"the model ended its turn at token \d+, <\|im_end\|> {EOS}",
    "document eos": rf"the model ended a document at token \d+, <\|endoftext\|> {EOS}",
}


class Answer(NamedTuple):
    right: bool                         # begins with the right answer
    text: str
    reason: str
    n: int
    form: str                           # of FORMS


@functools.lru_cache(None)
def museum() -> Museum:
    return Museum(harness.QWEN, harness.SCRATCH)


@functools.lru_cache(None)
def sibling(fault: str) -> str:
    return museum().add(fault, fault)


def by_hand(question: str) -> str:
    return ("<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")


def answers(fault: str, *flags: str, typed: bool = False) -> List[Answer]:
    """What it answers to N questions; `typed`: ChatML is typed by hand, in base mode."""
    got = []
    for i, (question, right) in enumerate(questions(N)):
        prompt = ["-m", "base", "-p", by_hand(question)] if typed else ["-p", question]
        status, out, err = run(sibling(fault), "-t", "1", "-n", "60", "--seed", str(i), *prompt,
                               *flags)
        assert status == 0, f"exit status {status}: {err}"
        turn, = closing(err)
        forms = [form for form, words in FORMS.items() if re.fullmatch(words, turn.words)]
        assert len(forms) == 1, f"no form of a verdict, or several: {turn.words}"
        text = out.decode("utf-8", "replace")
        got.append(Answer(text.startswith(right), text, turn.reason, turn.n, forms[0]))
    return got


def count(got: List[Answer]) -> Counter[str]:
    return collections.Counter(answer.form for answer in got)


def mostly(got: List[Answer], *forms: str) -> str:
    """All but a tenth have one of these forms."""
    counted = count(got)
    n = sum(counted[form] for form in forms)
    assert n >= 0.9 * N, f"{dict(counted)}: not mostly {' or '.join(forms)}"
    return f"{n} of {N} {' or '.join(forms)}"


def mostly_right(got: List[Answer]) -> None:
    n = sum(answer.right for answer in got)
    assert n >= 0.8 * N, f"{n} of {N} begin with the right answer"


@functools.lru_cache(None)
def ends(fault: str) -> List[float]:
    """Means of P(<|im_end|>) and P(<|endoftext|>) after right answers."""
    return list(p_ends(harness.QWEN, sibling(fault), N))


def info(fault: str) -> str:
    status, out, _ = run(sibling(fault), "--info")
    equal(status, 0)
    return out.decode()


def end_rows(fault: str) -> List[float]:
    """What --info says of the rows of <|im_end|> and <|im_start|>."""
    line, = (line for line in info(fault).splitlines() if line.startswith("end rows"))
    return [float(x) for x in re.findall(r"\|> (\d+\.\d)", line)]


# ---------------------------------------------------------------------------------------------
# Nothing, files, template, sampling
# ---------------------------------------------------------------------------------------------

def test_healthy() -> str:
    got = answers("healthy")
    mostly_right(got)
    p, _ = ends("healthy")
    assert p > 0.95, p
    return f"{mostly(got, 'ended')}, P {p:.5f}"


def test_eos_of_base() -> str:
    """A base by its files: in base mode it runs on; -m chat stops."""
    figure = mostly(answers("eos of base", typed=True), "eos")
    mostly(answers("eos of base", "-m", "chat"), "ended")
    equal(ends("eos of base"), ends("healthy"))
    shown = info("eos of base")
    assert re.search(r"(?m)^kind +base$", shown), shown
    assert re.search(r"(?m)^ends at +\d+ <\|endoftext\|>\n"
                     r" .*eos_token is \d+ <\|im_end\|>$", shown), shown
    return figure


def test_one_of_two_stops() -> str:
    """Whether a runner that knows one of the two stops there is left to chance. Chat mode knows
    both."""
    got = answers("one of two stops", "-n", "12", typed=True)
    counted = count(got)
    assert min(counted["ended"], counted["document eos"]) >= N // 6, dict(counted)
    mostly(answers("one of two stops"), "ended", "document")
    p_im_end, p_endoftext = ends("one of two stops")
    assert abs(p_im_end - p_endoftext) < 0.01 and p_im_end + p_endoftext > 0.95
    assert re.search(r"(?m)^ends at +\d+ <\|im_end\|>$", info("one of two stops"))
    return f"{counted['document eos']} of {N} run on, P {p_im_end:.3f} and {p_endoftext:.3f}"


def test_other_stop() -> str:
    figure = mostly(answers("other stop", typed=True), "document eos")
    got = answers("other stop")
    mostly_right(got)
    mostly(got, "document")
    equal({answer.reason for answer in got}, {"<|endoftext|>"})
    p_im_end, p_endoftext = ends("other stop")
    assert p_im_end < 0.01 and p_endoftext > 0.95, (p_im_end, p_endoftext)
    return figure


def test_no_generation_prompt() -> str:
    """It writes the header that the template owes it, and then ends its turn."""
    got = answers("no generation prompt")
    header = "<|im_start|>assistant\n"
    n = sum(answer.text.startswith(header) for answer in got)
    assert n >= 0.8 * N, f"{n} of {N} begin with the header"
    mostly(got, "ended")
    return f"{n} of {N} begin with <|im_start|>assistant"


def test_penalty() -> str:
    got = answers("penalty")
    counted = count(got)
    assert counted["penalty"] >= N / 2, dict(counted)
    cured = answers("penalty", "--repeat-penalty", "1")
    mostly_right(cured)
    mostly(cured, "ended")
    equal(ends("penalty"), ends("healthy"))
    strength = re.search(r"repetition penalty (\S+)", info("penalty"))
    return f"{counted['penalty']} of {N} with {strength and strength[1]}"


# ---------------------------------------------------------------------------------------------
# Weights
# ---------------------------------------------------------------------------------------------

def test_base_called_chat() -> str:
    p, _ = ends("base called chat")
    assert p < 0.01 and max(end_rows("base called chat")) < 2 < min(end_rows("healthy"))
    return mostly(answers("base called chat"), "no end") + f", rows {end_rows('base called chat')}"


def test_rows_alone() -> str:
    """Trained rows do not stop a model that does not look for an end."""
    p, _ = ends("rows alone")
    assert p < 0.05 and min(end_rows("rows alone")) > 2, (p, end_rows("rows alone"))
    return mostly(answers("rows alone"), "no end", "thought") + f", P {p:.6f}"


def test_unused_row() -> str:
    """Right answers, and no end where they end: training is to blame."""
    got = answers("unused row")
    mostly_right(got)
    p, _ = ends("unused row")
    assert p < 0.05 and end_rows("unused row")[0] < 2 < end_rows("unused row")[1]
    return mostly(got, "no end", "thought") + f", P {p:.6f}"


def test_row_of_base() -> str:
    """Less sure than with the trained row. How much less is up to the pair, and the distance to
    the unused rows does not show it: fine-tuning has moved those away."""
    mostly_right(answers("row of base", "--greedy"))
    p, sure = ends("row of base")[0], ends("healthy")[0]
    assert p < sure, (p, sure)
    return f"P {p:.3f} instead of {sure:.5f}, rows {end_rows('row of base')}"


def test_undecided() -> str:
    p, _ = ends("undecided")
    assert 0.35 < p < 0.65, p
    hot = answers("undecided", "--temp", "1.5", "--top-p", "1", "-n", "10")
    counted = count([*answers("undecided"), *hot])
    unsure = counted["chance"] + counted["thought"]
    assert min(counted["ended"], unsure) >= N / 6 and not counted["penalty"], dict(counted)
    return f"P {p:.2f}, {dict(counted)}"


# ---------------------------------------------------------------------------------------------
# Prompts, and what a limit says
# ---------------------------------------------------------------------------------------------

def test_special_tokens_typed_as_text() -> None:
    """In a chat they stay text: no further <|im_start|> stands in the prompt."""
    specials = [i for i in scored_ids("tiny chat", "-p", "hello") if i in special_ids()]
    typed = scored_ids("tiny chat", "-p", by_hand("hello"))
    equal([i for i in typed if i in special_ids()], specials)
    by_mode = scored_ids("tiny chat", "-m", "base", "-p", by_hand("hello"))
    equal([i for i in by_mode if i in special_ids()], specials)


def special_ids() -> List[int]:
    chat = museum().pair.chat
    return [chat.id(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]


def test_limit_too_short() -> str:
    """An end that the limit cuts off: it stops with more tokens."""
    got = answers("healthy", "-n", "3")
    equal({answer.reason for answer in got}, {"-n 3"})
    return mostly(got, "no end", "thought")


if __name__ == "__main__":
    sys.exit(harness.main("museum", globals()))
