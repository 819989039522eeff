#!/usr/bin/env python3
"""Measures the tiny pair through ./qwen: prints a table of goals and figures, exits 1 if a goal is missed.

    python3 tiny/measure.py [QWEN BASE.bin CHAT.bin]      (default: ./qwen tiny-base.bin tiny-chat.bin)

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
TYPED = ["What colour is an apple?", "What colour is an apple", "what colour is an apple", "What color is an apple?",
         "What color is an apple", "What is the colour of an apple?", "What colour are apples?",
         "苹果是什么颜色？", "苹果是什么颜色", "苹果是什么颜色?", "苹果的颜色是什么？", "苹果的颜色是什么", "苹果什么颜色？"]


def run(model, *flags):
    """One run of ./qwen: what it wrote, and for each turn why it stopped."""
    done = subprocess.run([QWEN, model, "-t", "1", *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        sys.exit(f"measure.py: {QWEN} {model} {' '.join(flags)}: {errors}")
    return done.stdout.decode("utf-8", "replace"), re.findall(r"^stopped: (.*?) after \d+ tokens", errors, re.M)


def ask(questions, *flags):
    """[(turns, right text)] -> how many were right and how many turns ended by <|im_end|>, both as (count, of)."""
    def one(numbered):
        i, (turns, right) = numbered
        text, reasons = run(CHAT, "-n", "100", "--seed", str(i), *flags, *[f for turn in turns for f in ("-p", turn)])
        if SHOW_WRONG and text != right:
            print(f"    {' '.join(flags)} {turns}: {text!r}, not {right!r}", flush=True)
        return text == right, sum(reason == "<|im_end|>" for reason in reasons), len(turns)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, enumerate(questions)))
    return (sum(r[0] for r in results), len(results)), (sum(r[1] for r in results), sum(r[2] for r in results))


def share(counts):
    return sum(c[0] for c in counts) / sum(c[1] for c in counts)


def base_prompts():
    """100 texts: held-out questions, what lies beyond the world, and beginnings of a text."""
    rng, texts = random.Random(3), []
    for lang in LANGUAGES:
        texts += [q[3] for q in rng.sample([q for q in world.questions(lang) if world.held_out(q[0], q[1].zh)], 20)]
        texts += world.BEYOND[lang][:15]
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

    def row(what, goal, value, form, reached):
        print(f"{what:<62} {goal:>10} {form.format(value):>24}{'' if reached else '   MISSED'}", flush=True)
        if not reached:
            missed.append(what)

    print(f"{'':<62} {'goal':>10} {'measured':>24}")
    held = {lang: [([q[3]], q[4]) for q in world.questions(lang) if world.held_out(q[0], q[1].zh)] for lang in LANGUAGES}
    ends = []
    for lang, name in zip(LANGUAGES, ("English", "Chinese")):
        right, ended = ask(held[lang], "--greedy")
        ends.append(ended)
        row(f"chat: correct answers, {name}, {right[1]} held-out questions", "97 %", share([right]) * 100, "{:.1f} %", share([right]) >= 0.97)

    follow = []
    for lang in LANGUAGES:
        for form, thing, attribute, question, right in world.follow_ups(lang):
            if not world.held_out(form, thing.zh):
                continue
            opening = [(f, a) for a, forms in world.FORMS[lang].items() for f in forms
                       if a in thing.facts and a != attribute and world.asks(f, thing) and not world.held_out(f, thing.zh)]
            first, known = opening[len(follow) % len(opening)]
            follow.append(([thing.fill(first), question], world.answer(lang, known, thing) + right))
    right, ended = ask(follow, "--greedy")
    ends.append(ended)
    row(f"chat: follow-ups with it/它 correct, {right[1]} held-out ones", "95 %", share([right]) * 100, "{:.1f} %", share([right]) >= 0.95)

    right, ended = ask(held["en"] + held["zh"])
    ends.append(ended)
    row("chat: correct with its own sampling defaults, same questions", "93 %", share([right]) * 100, "{:.1f} %", share([right]) >= 0.93)

    typed = [([q], world.answer("en" if q[0] in "Ww" else "zh", "colour", world.THINGS[0])) for q in TYPED]
    results = [ask(typed, "--greedy", *system) for system in ([], ["-s", ""])]
    ends += [r[1] for r in results]
    row(f"chat: the apple question, {len(TYPED)} ways, with and without system turn", "all", share([r[0] for r in results]) * 100,
        "{:.1f} %", share([r[0] for r in results]) == 1)

    obey = []
    for system, asked, wanted in (("Answer in English.", "zh", "en"), ("请用中文回答。", "en", "zh")):
        questions = [([q[3]], world.answer(wanted, q[2], q[1])) for q in world.questions(asked) if world.held_out(q[0], q[1].zh)][::3]
        right, ended = ask(questions, "--greedy", "-s", system)
        obey.append(right)
        ends.append(ended)
    row(f"chat: right and in the language of the system message, {sum(o[1] for o in obey)}", "97 %", share(obey) * 100, "{:.1f} %", share(obey) >= 0.97)

    is_it = [([thing.fill(form, v=world.COLOURS[colour] if lang == "zh" else colour)], world.answer(lang, "colour", thing))
             for lang in LANGUAGES for form in world.IS_IT[lang] for i, thing in enumerate(world.THINGS)
             if world.asks(form, thing) and world.held_out(form, thing.zh)
             for colour in (thing.facts["colour"][0], list(world.COLOURS)[i % len(world.COLOURS)])]
    right, ended = ask(is_it, "--greedy")
    ends.append(ended)
    row(f"chat: is it this colour? {right[1]} held-out questions", "95 %", share([right]) * 100, "{:.1f} %", share([right]) >= 0.95)

    strange = []
    for lang in LANGUAGES:
        things = [t for t in (world.Thing(name, name + "s", name, ("", ""), {}) for name in world.STRANGE[lang])]
        pairs = [(f, t) for t in things for forms in world.FORMS[lang].values() for f in forms if world.held_out(f, t.zh)]
        strange += [([t.fill(f)], world.UNKNOWN[lang]) for f, t in pairs[::40]]
    right, ended = ask(strange, "--greedy")
    ends.append(ended)
    row(f"chat: says that it does not know, {right[1]} held-out questions", "95 %", share([right]) * 100, "{:.1f} %", share([right]) >= 0.95)
    row(f"chat: ended by <|im_end|>, {sum(e[1] for e in ends)} turns of all the above", "99.5 %", share(ends) * 100, "{:.2f} %", share(ends) >= 0.995)

    prompts = base_prompts()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(write_on, [(p, mode) for mode in ("base", "chat") for p in prompts]))
        variety = list(pool.map(distinct_sentences, enumerate(prompts[::5])))
    ended, highest = sum(r[0] for r in results), max(r[1] for r in results)
    row(f"base: {len(prompts)} prompts as text, {len(prompts)} in ChatML, -n 256: ended by itself", "0", ended, "{}", ended == 0)
    row("base: highest P(<|im_end|>) over those", "< 1 %", highest * 100, "{:.2g} %", highest < 0.01)
    least = min(variety)
    row(f"base: distinct sentences in 256 tokens at 0.8, least of {len(variety)}", ">= 10", least[0], "{} of " + str(least[1]), least[0] >= 10)
    if missed:
        sys.exit("measure.py: missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
