#!/usr/bin/env python3
"""Measures the tiny pair through ./qwen: prints a table of goals and figures, exits 1 if a goal is missed.

    python3 tiny/measure.py [--wrong] [QWEN BASE.bin CHAT.bin]      (default: ./qwen tiny-base.bin tiny-chat.bin)

Questions are those that tiny/world.py holds out of training; an answer counts only if it is the right sentence to the
letter. --wrong prints every wrong answer. Standard library only.
"""
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import world

arguments = [argument for argument in sys.argv[1:] if argument != "--wrong"]
QWEN, BASE, CHAT = arguments or ["./qwen", "tiny-base.bin", "tiny-chat.bin"]
SHOW_WRONG = "--wrong" in sys.argv
LANGUAGES = ("en", "zh")
GREEDY = ("--greedy",)

APPLE = ["What colour is an apple?", "What colour is an apple", "what colour is an apple", "What color is an apple?",
         "what color is an apple", "What is the colour of an apple?", "What colour are apples?", "What colour is the apple?",
         "What's the color of an apple?", "what colour is apple", "What colour is an apple ?", "What colour is an apple? ",
         "Please tell me the colour of an apple.",
         "苹果是什么颜色？", "苹果是什么颜色", "苹果是什么颜色?", "苹果的颜色是什么？", "苹果的颜色是什么", "苹果什么颜色？",
         "请问苹果是什么颜色", "苹果是什么颜色的", "苹果是什么颜色 "]
SMALL_TALK = {"en": ["Hello", "hello!", "Hi", "hi", "Good morning", "Thanks", "thank you", "Who are you?", "who are you", "Bye"],
              "zh": ["你好", "你好！", "您好", "早上好", "谢谢", "谢谢！", "你是谁？", "你是谁", "再见"]}
COUNTING = [("Count to five.", "en", 5), ("count to 3", "en", 3), ("数到五。", "zh", 5), ("数到3", "zh", 3)]


def run(model, *flags):
    """One run of ./qwen: what it wrote, and for each turn why it stopped."""
    done = subprocess.run([QWEN, model, "-t", "1", *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        sys.exit(f"measure.py: {QWEN} {model} {' '.join(flags)}: {errors}")
    return done.stdout.decode("utf-8", "replace"), re.findall(r"^stopped: (.*?) after \d+ tokens", errors, re.M)


# ---- what the chat model is asked: lists of (flags, turns, what it must write in all of them) ------------------------

def held_out(lang, flags=GREEDY):
    return [(flags, [question], right) for form, thing, _, question, right in world.questions(lang) if world.held_out(form, thing.zh)]


def follow_ups():
    """A question that names the thing, which may be from training, then one with it / 它, which is held out."""
    asked = []
    for lang in LANGUAGES:
        for form, thing, attribute, question, right in world.follow_ups(lang):
            if world.held_out(form, thing.zh):
                opening = [(f, a) for a, forms in world.FORMS[lang].items() for f in forms
                           if a in thing.facts and a != attribute and world.asks(f, thing) and not world.held_out(f, thing.zh)]
                first, known = opening[len(asked) % len(opening)]
                asked.append((GREEDY, [thing.fill(first), question], world.answer(lang, known, thing) + right))
    return asked


def apple():
    return [(GREEDY + system, [question], world.answer("en" if question.isascii() else "zh", "colour", world.THINGS[0]))
            for question in APPLE for system in ((), ("-s", ""))]


def small_talk():
    def plain(text):
        return text.rstrip("?？.。!！").lower()
    replies = {plain(says): reply for lang in LANGUAGES for group, reply in world.TALK[lang] for says in group}
    return ([((), [said], replies[plain(said)]) for lang in LANGUAGES for said in SMALL_TALK[lang]]
            + [((), [said], world.count(lang, n)) for said, lang, n in COUNTING])


def in_the_language_wanted():
    return [(GREEDY + ("-s", system), [question], world.answer(wanted, attribute, thing))
            for system, asked, wanted in (("Answer in English.", "zh", "en"), ("请用中文回答。", "en", "zh"))
            for form, thing, attribute, question, _ in world.questions(asked)[::3] if world.held_out(form, thing.zh)]


def is_it():
    """Half of them ask for the right colour; the fact itself is the answer, also to a wrong one."""
    return [(GREEDY, [thing.fill(form, v=world.COLOURS[colour] if lang == "zh" else colour)], world.answer(lang, "colour", thing))
            for lang in LANGUAGES for form in world.IS_IT[lang] for i, thing in enumerate(world.THINGS)
            if world.asks(form, thing) and world.held_out(form, thing.zh)
            for colour in (thing.facts["colour"][0], list(world.COLOURS)[i % len(world.COLOURS)])]


def beyond():
    """Names that training never used, in the usual questions, and questions that it never used."""
    asked = []
    for lang in LANGUAGES:
        names = [name for name in world.STRANGE[lang] if world.held_out("strange", name)]
        forms = [form for forms in world.FORMS[lang].values() for form in forms if "{n}" not in form]
        asked += [world.Thing(name, name + "s", name, {}).fill(forms[i * 7 % len(forms)]) for i, name in enumerate(names * 2)]
        asked += [form for form in world.BEYOND[lang] if world.held_out("beyond", form) and "{" not in form]
    return [(GREEDY, [question], world.UNKNOWN["en" if question.isascii() else "zh"]) for question in asked]


def strange_systems():
    systems = [form for form in world.HARMLESS if world.held_out("harmless", form)] + ["You are a pirate.", "你是一个诗人。", "abc"]
    questions = held_out("en") + held_out("zh")
    return [(flags + ("-s", world.THINGS[0].fill(system)), turns, right)
            for i, system in enumerate(systems) for flags, turns, right in questions[i::40]]


def conversations():
    rng = random.Random(4)
    for _ in range(60):
        chosen = rng.sample(held_out(rng.choice(LANGUAGES), ()), 10)
        yield (), [turns[0] for _, turns, _ in chosen], "".join(right for _, _, right in chosen)


def ask(questions):
    """-> shares of right answers and of turns that ended by <|im_end|>, both as (count, of)."""
    def one(numbered):
        i, (flags, turns, right) = numbered
        text, reasons = run(CHAT, "-n", "100", "--seed", str(i), *flags, *[f for turn in turns for f in ("-p", turn)])
        if SHOW_WRONG and text != right:
            print(f"    {' '.join(flags)} {turns}: {text!r}, not {right!r}", flush=True)
        return text == right, reasons.count("<|im_end|>"), len(turns)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, enumerate(questions)))
    return (sum(r[0] for r in results), len(results)), (sum(r[1] for r in results), sum(r[2] for r in results))


# ---- what the base model is given ------------------------------------------------------------------------------------

def base_prompts():
    """100 texts: held-out questions, what lies beyond the world, and beginnings of a text."""
    rng, texts = random.Random(3), []
    for lang in LANGUAGES:
        texts += [turns[0] for _, turns, _ in rng.sample(held_out(lang), 20)]
        texts += [form for form in world.BEYOND[lang] if "{" not in form][:15]
        texts += [world.prose(rng, lang)[:rng.randint(4, 40)].strip() for _ in range(15)]
    return texts


def write_on(prompt_and_mode):
    """The base model on one prompt: did it end by itself, and the highest P(<|im_end|>)."""
    prompt, mode = prompt_and_mode
    table, reasons = run(BASE, "-m", mode, "-n", "256", "--watch", "-p", prompt)
    return reasons != ["-n 256"], max(float(line.split("\t")[4]) for line in table.splitlines()[1:])


def distinct_sentences(numbered):
    i, prompt = numbered
    text, _ = run(BASE, "-n", "256", "--temp", "0.8", "--seed", str(i), "-p", prompt)
    sentences = [s.strip() for s in re.split(r"(?<=[.?!。？！])", text) if s.strip()][:-1]
    return len(set(sentences)), len(sentences)


def main():
    missed = []

    def row(what, goal, measured, reached):
        print(f"{what:<66} {goal:>8} {measured:>12}{'' if reached else '   MISSED'}", flush=True)
        if not reached:
            missed.append(what)

    row("", "goal", "measured", True)
    ended = turns = 0
    for what, goal, questions in (
            ("correct answers, English", 97, held_out("en")),
            ("correct answers, Chinese", 97, held_out("zh")),
            ("follow-ups with it/它 correct", 95, follow_ups()),
            ("correct with its own sampling defaults", 93, held_out("en", ()) + held_out("zh", ())),
            ("the apple question in many spellings", 100, apple()),
            ("greetings, thanks, who it is, counting, sampling", 100, small_talk()),
            ("right, in the language that the system message wants", 97, in_the_language_wanted()),
            ("is it this colour?", 95, is_it()),
            ("says that it does not know what it never saw", 95, beyond()),
            ("correct under system messages that it never saw", 95, strange_systems()),
            ("ten questions in one conversation, all correct, sampling", 80, conversations())):
        right, stopped = ask(questions)
        share = 100 * right[0] / right[1]
        row(f"chat: {what} ({right[1]})", f"{goal} %", f"{share:.1f} %", share >= goal)
        ended, turns = ended + stopped[0], turns + stopped[1]
    row(f"chat: ended by <|im_end|> ({turns} turns of all the above)", "99.5 %", f"{100 * ended / turns:.2f} %", ended / turns >= 0.995)

    prompts = base_prompts()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(write_on, [(prompt, mode) for mode in ("base", "chat") for prompt in prompts]))
        varieties = list(pool.map(distinct_sentences, enumerate(prompts[::5])))
    ended, highest, variety = sum(r[0] for r in results), max(r[1] for r in results), min(varieties)
    row(f"base: {len(prompts)} prompts as text, {len(prompts)} in ChatML, -n 256: ended by itself", "0", str(ended), ended == 0)
    row("base: highest P(<|im_end|>) over those", "< 1 %", f"{100 * highest:.2g} %", highest < 0.01)
    row(f"base: distinct sentences in 256 tokens at 0.8, least of {len(varieties)}", ">= 10", f"{variety[0]} of {variety[1]}", variety[0] >= 10)
    if missed:
        sys.exit("measure.py: missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
