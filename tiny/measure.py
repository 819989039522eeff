#!/usr/bin/env python3
"""Measures the tiny pair through ./qwen: a table of goals and figures; exits 1 if a goal is missed.

    python3 tiny/measure.py [--wrong] [QWEN BASE.bin CHAT.bin]

By default ./qwen tiny-base.bin tiny-chat.bin. --wrong prints every wrong answer, and all answers to
SHOUTED. Questions are those that tiny/world.py holds out of training, where nothing else is said;
an answer counts only if it is the right sentence to the letter. Standard library only.
"""
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import prose
import talk
import world
from world import THINGS, UNKNOWN, answer

ARGUMENTS = [argument for argument in sys.argv[1:] if argument != "--wrong"]
QWEN, BASE, CHAT = ARGUMENTS or ["./qwen", "tiny-base.bin", "tiny-chat.bin"]
SHOW_WRONG = "--wrong" in sys.argv
LANGUAGES = ("en", "zh")
GREEDY = ("--greedy",)

APPLE = ["What colour is an apple?", "What colour is an apple", "what colour is an apple",
         "What color is an apple?", "what color is an apple", "What is the colour of an apple?",
         "What colour are apples?", "What colour is the apple?", "What's the color of an apple?",
         "what colour is apple", "What colour is an apple ?", "What colour is an apple? ",
         "Please tell me the colour of an apple.", "苹果是什么颜色？", "苹果是什么颜色",
         "苹果是什么颜色?", "苹果的颜色是什么？", "苹果的颜色是什么", "苹果什么颜色？",
         "请问苹果是什么颜色", "苹果是什么颜色的", "苹果是什么颜色 ", "蘋果是什麼顏色？",
         "蘋果是什麼顏色"]
# What a class will ask, most of it in words that are not in training, and a phrase of the same
# meaning that is: the answer must be the same.
LESSON = {"Why do you stop?": ["Why did you stop?", "why do you stop", "Why do you stop here?",
                               "How do you know when to stop?", "Why do you always stop?",
                               "why did you stop writing", "So why do you stop?",
                               "Why did you stop after the answer?"],
          "What is <|im_end|>?": ["what is <|im_end|>", "What's <|im_end|> ?", "What is im_end?",
                                  "What does <|im_end|> mean?", "And what is <|im_end|>?",
                                  "Can you tell me what <|im_end|> is?"],
          "Why does the base model not stop?": ["Why does the base model never stop?",
                                                "why doesnt the base model stop",
                                                "Why does the base model not stop writing?"],
          "What is a base model?": ["what is a base model?", "What is a chat model?",
                                    "What's the difference between base and chat?"],
          "What is a token?": ["what is a token", "what's a token?", "And what is a token?"],
          "你为什么停下来？": ["你为什么停下来", "你为什么停？", "为什么你停下来？",
                               "你为什么总是停下来？", "你怎么知道什么时候停下来？",
                               "那你为什么停下来？", "你為什麼停下來？"],
          "<|im_end|>是什么？": ["<|im_end|>是什么", "<|im_end|> 是什么？", "什么是 <|im_end|>？",
                                 "那<|im_end|>是什么意思？"],
          "基础模型为什么不停？": ["基础模型为什么不停", "为什么基础模型不停下来？",
                                   "基础模型为什么不停下来？"],
          "什么是标记？": ["什么是标记", "token是什么", "那标记是什么？"]}
WORDS = {"Hello": ["Hello", "hello!", "Hi", "hi", "Good morning", "Good Morning", "HELLO"],
         "Thank you.": ["Thanks", "thank you", "thanks!"], "Bye": ["Bye", "bye bye"],
         "Who are you?": ["Who are you?", "who are you", "What is your name"],
         "lol": ["lol", "LOL", "haha"], "Stop!": ["Stop!", "stop", "STOP!", "Please stop"],
         "OK": ["ok", "OK", "Ok!", "okay", "yes"], "Why?": ["why?", "Why", "but why?"],
         "Help": ["help", "Help!", "help me"], "No": ["no", "No!"],
         "你好": ["你好", "你好！", "您好", "早上好"], "谢谢": ["谢谢", "谢谢！"], "再见": ["再见"],
         "你是谁？": ["你是谁？", "你是谁"], "哈哈": ["哈哈", "哈哈哈"], "停！": ["停！", "停下",
                                                                                  "停"],
         "好的": ["好的", "好", "嗯"], "为什么？": ["为什么？", "为什么"], "帮帮我": ["帮帮我",
                                                                                      "帮助"]}
# What pupils would shout. The first of each two was looked at while the training data was written,
# the second was not. Right and wrong is not judged here, but how often it only says "Sorry".
SHOUTED = {
    "en": ["What colour is an elephant?", "How old are you?", "lol",
           "What's your favourite colour?", "Tell me a joke!", "Do you like pizza?",
           "what is 1+1", "Are you alive?", "Is the sky blue?", "Say hello to Max!",
           "Who is your mum?", "Can you speak French?", "What does the fox say?",
           "Where do you live?", "why is the sky blue", "Stop!!!", "Which animal is the biggest?",
           "Do you go to school?", "Are you a boy or a girl?", "What is the capital of Germany?",
           "Can a penguin fly?", "I like bananas", "Is a tomato a fruit or a vegetable?",
           "Can you do my homework?", "haha you are funny", "What is your name", "count to ten!!",
           "Can I eat soap?", "What do you think about?", "What time is it?",
           "How many legs has a spider", "Are you smarter than my teacher?",
           "Why do you always stop?", "What is a unicorn?", "Do fish sleep?",
           "What colour is a zebra?", "wats your name", "are you chatgpt", "Name three fruits",
           "Sing something!", "Why did the other one not stop?", "What is inside a computer?",
           "I love you", "How do you know all that?", "Is a whale a fish?", "You are so dumb",
           "Is snow hot?", "Can you count backwards?", "apples or bananas?", "Write a story",
           "What happens when you stop?", "whats a token", "Do you ever get tired?",
           "Who made you?", "What is bigger, a mouse or an elephant?", "Hello???",
           "Does a snake have legs?", "Can you lie?", "What is red and sweet?", "Are you sure?"],
    "zh": ["大象是什么颜色？", "你几岁了？", "哈哈哈", "你最喜欢什么颜色？", "讲个笑话吧！",
           "你喜欢吃苹果吗？", "1+1等于几", "你是活的吗？", "天空是蓝色的吗？", "你妈妈是谁？",
           "你会说法语吗？", "小猫怎么叫", "你住在哪里？", "天为什么是蓝的", "停！停！",
           "最大的动物是什么？", "你上学吗？", "你是男的还是女的？", "德国的首都是哪里？",
           "企鹅会飞吗？", "我喜欢香蕉", "帮我写作业", "你真好笑", "数到十！", "肥皂能吃吗？",
           "现在几点了", "你比老师聪明吗？", "你为什么总是会停？", "蜘蛛几条腿", "独角兽是什么？",
           "斑马是什么颜色的", "唱首歌吧", "另一个为什么不停？", "我爱你", "你怎么知道这么多？",
           "鲸鱼是鱼吗？", "你好笨", "雪是热的吗？", "什么东西是红的？", "你会累吗？"],
}


def run(model, *flags):
    """One run of ./qwen: what it wrote, and for each turn why it stopped."""
    done = subprocess.run([QWEN, model, "-t", "1", *flags], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors = done.stderr.decode("utf-8", "replace")
    if done.returncode != 0:
        sys.exit(f"measure.py: {QWEN} {model} {' '.join(flags)}: {errors}")
    reasons = re.findall(r"^stopped: (.*?) after \d+ tokens?\b", errors, re.M)
    return done.stdout.decode("utf-8", "replace"), reasons


# ---- what the chat model is asked: lists of (flags, turns, what it must write in all of them) ----

def held_out(lang, flags=GREEDY):
    return [(flags, [question], right) for form, thing, _, question, right in world.questions(lang)
            if world.held_out(form, thing.zh)]


def opening(lang, thing, attribute, i):
    """A question that names the thing, which may be from training, and its answer."""
    known = [(form, a) for a, forms in world.FORMS[lang].items() for form in forms
             if a in thing.facts and a != attribute and world.asks(form, thing)
             and not world.held_out(form, thing.zh)]
    form, a = known[i % len(known)]
    return thing.fill(form), answer(lang, a, thing)


def follow_ups():
    """An opening, then a question with it / 它."""
    asked = []
    for lang in LANGUAGES:
        for form, thing, attribute, question, right in world.follow_ups(lang):
            if world.held_out(form, thing.zh):
                first, known = opening(lang, thing, attribute, len(asked))
                asked.append((GREEDY, [first, question], known + right))
    return asked


def yes_no():
    """Half of them ask for the right value."""
    return [(GREEDY, [question], right) for lang in LANGUAGES
            for form, thing, _, question, right in world.yes_no_questions(lang, random.Random(1))
            if world.held_out(form, thing.zh)]


def yes_no_with_it():
    """An opening, then a yes-or-no question with it / 它, then one with it that wants no yes."""
    asked = []
    for lang in LANGUAGES:
        rows = world.yes_no_questions(lang, random.Random(2), it=True)
        for i, (form, thing, attribute, question, right) in enumerate(rows):
            if world.held_out(form, thing.zh):
                first, known = opening(lang, thing, attribute, i)
                other = [a for a in world.IT_FORMS[lang] if a in thing.facts and a != attribute]
                last = other[i % len(other)]
                asked.append((GREEDY, [first, question, world.IT_FORMS[lang][last][0]],
                              known + right + answer(lang, last, thing)))
    return asked


def can_i():
    return [(GREEDY, [thing.fill(form)], world.yes_or_no(lang, attribute, thing, value))
            for lang in LANGUAGES for (attribute, value), forms in world.CAN_I[lang].items()
            for form in forms for thing in THINGS
            if world.asks(form, thing) and world.held_out(form, thing.zh)]


def apple():
    return [(GREEDY + system, [question],
             answer("en" if question.isascii() else "zh", "colour", THINGS[0]))
            for question in APPLE for system in ((), ("-s", ""))]


def same_as(table, flags):
    """{a phrase of training: phrases that mean the same}: the answer that training gives to it."""
    replies = {says: reply for lang in LANGUAGES
               for group, reply in talk.TALK[lang] for says in group}
    return [(flags, [phrase], replies[known])
            for known, phrases in table.items() for phrase in phrases]


def counting():
    return [(GREEDY, [form.format(n=n_text)], world.count(lang, n))
            for lang in LANGUAGES for form in talk.COUNT[lang] for n in range(1, 11)
            for n_text in (str(n), world.NUMBER_WORDS[lang][n - 1])]


def names_alone():
    """A name and nothing else, singular and plural."""
    return [(GREEDY, [name], world.describe(lang, thing)) for lang in LANGUAGES for thing in THINGS
            for name in ((thing.zh,) if lang == "zh" else {thing.bare, thing.plural} - {"-"})
            if name not in world.COLOURS]


def two_things():
    asked, rng = [], random.Random(6)
    for lang in LANGUAGES:
        coloured = [thing for thing in THINGS if "colour" in thing.facts]
        for _ in range(50):
            one, other = rng.sample(coloured, 2)
            names = (one.zh, other.zh) if lang == "zh" else (one.a, other.a)
            question = talk.BOTH[lang]["colour"][0].format(x=names[0], y=names[1])
            space = " " if lang == "en" else ""
            right = answer(lang, "colour", one) + space + answer(lang, "colour", other)
            asked.append((GREEDY, [question], right))
    return asked


def in_traditional():
    return [(GREEDY, [world.traditional(question)], right)
            for form, thing, _, question, right in world.questions("zh")
            if world.held_out(form, thing.zh) and world.traditional(question) != question]


def in_the_language_wanted():
    systems = (("Answer in English.", "zh", "en"), ("请用中文回答。", "en", "zh"))
    return [(GREEDY + ("-s", system), [question], answer(wanted, attribute, thing))
            for system, asked, wanted in systems
            for form, thing, attribute, question, _ in world.questions(asked)[::3]
            if world.held_out(form, thing.zh)]


def misspelt():
    """A slip in the name of the thing, none of which was in training."""
    asked, rng = [], random.Random(7)
    for form in ("What colour is {a}?", "what color is {a}", "wat colour is {n}",
                 "what colour is {n}"):
        for thing in THINGS:
            if "colour" not in thing.facts or len(thing.bare) < 4 or not world.asks(form, thing):
                continue
            slip = talk.misspell(rng, thing.bare)
            if slip not in talk.NAMES and world.held_out("slip", slip):
                question = thing.fill(form).replace(thing.bare, slip)
                asked.append((GREEDY, [question], answer("en", "colour", thing)))
    return asked + [(GREEDY, [question], answer("en", "colour", THINGS[i])) for i, question in (
        (0, "what colour is aple"), (0, "wat colour is aple"), (1, "wat colour is a bananna"))]


def beyond():
    """Names that training never used, in the usual questions, and questions that it never used."""
    asked = []
    for lang in LANGUAGES:
        names = [name for name in world.STRANGE[lang] if world.held_out("strange", name)]
        forms = [form for forms in world.FORMS[lang].values() for form in forms
                 if "{n}" not in form]
        asked += [world.Thing(name, name + "s", name, {}).fill(forms[i * 7 % len(forms)])
                  for i, name in enumerate(names * 2)]
    return [(GREEDY, [question], UNKNOWN["en" if question.isascii() else "zh"])
            for question in asked]


def strange_systems():
    systems = [form for form in talk.HARMLESS if world.held_out("harmless", form)]
    systems += ["You are a pirate.", "你是一个诗人。", "abc"]
    questions = held_out("en") + held_out("zh")
    return [(flags + ("-s", THINGS[0].fill(system)), turns, right)
            for i, system in enumerate(systems) for flags, turns, right in questions[i::40]]


def conversations(count, turns, flags=()):
    rng = random.Random(4)
    for _ in range(count):
        chosen = rng.sample(held_out(rng.choice(LANGUAGES), ()), turns)
        yield flags, [asked[0] for _, asked, _ in chosen], "".join(right for _, _, right in chosen)


def ask(questions, limit=100):
    """-> for each question (right, what it wrote, turns that ended by <|im_end|>, turns)."""
    def one(numbered):
        i, (flags, turns, right) = numbered
        text, reasons = run(CHAT, "-n", str(limit), "--seed", str(i), *flags,
                            *[word for turn in turns for word in ("-p", turn)])
        if SHOW_WRONG and text != right:
            print(f"    {' '.join(flags)} {turns}: {text!r}, not {right!r}", flush=True)
        return text == right, text, reasons.count("<|im_end|>"), len(turns)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, enumerate(questions)))


# ---- what the base model is given ----------------------------------------------------------------

def colour_questions():
    """All questions about colours of this world, also those of the base's prose."""
    return [(lang, thing, question, right) for lang in LANGUAGES
            for _, thing, attribute, question, right in world.questions(lang)
            if attribute == "colour"]


def answers_in_chatml(asked):
    """The base in a chat: does its first sentence name the thing, is it the chat model's own?"""
    lang, thing, question, right = asked
    text, _ = run(BASE, "-m", "chat", "-n", "24", "-p", question)
    first = re.split(r"[.。\n]", text.strip())[0]
    names = {thing.zh} if lang == "zh" else {thing.bare, thing.plural} - {"-"}
    if SHOW_WRONG and not text.startswith(right):
        print(f"    base: {question}: {text!r}", flush=True)
    return any(name in first.lower() for name in names), text.startswith(right)


def begins_with_the_apple():
    """The question of the lesson, in both languages and both modes, with and without its mark."""
    for question in ("What colour is an apple?", "苹果是什么颜色？", "苹果是什么颜色"):
        right = answer("en" if question.isascii() else "zh", "colour", THINGS[0])
        for mode in ("base", "chat"):
            text, reasons = run(BASE, "-m", mode, "-n", "64", "-p", question)
            if SHOW_WRONG:
                print(f"    base -m {mode} {question}: {text!r}", flush=True)
            ran_on = len(sentences(text)) > 1 and reasons == ["-n 64"]
            yield text.strip().startswith(right) and ran_on


def base_prompts():
    """100 texts: held-out questions, what lies beyond the world, and beginnings of a text."""
    rng, texts = random.Random(3), []
    for lang in LANGUAGES:
        texts += [turns[0] for _, turns, _ in rng.sample(held_out(lang), 20)]
        texts += [form for form in talk.BEYOND[lang] if "{" not in form][:15]
        texts += [prose.prose(rng, lang).replace(prose.HOLE, "")[:rng.randint(4, 40)].strip()
                  for _ in range(15)]
    return texts


def write_on(prompt_and_mode):
    """The base model on one prompt: did it end by itself, and the highest P(<|im_end|>)."""
    prompt, mode = prompt_and_mode
    table, reasons = run(BASE, "-m", mode, "-n", "256", "--watch", "-p", prompt)
    head, *rows = [line.split("\t") for line in table.splitlines()]
    return reasons != ["-n 256"], max(float(row[head.index("p_im_end")]) for row in rows)


def sentences(text):
    """The whole sentences of a text."""
    return [s.strip() for s in re.split(r"(?<=[.?!。？！\n])", text) if s.strip()][:-1]


def different(prompt, *flags):
    """How many different sentences, and how many in all, the base model writes in a chat."""
    found = sentences(run(BASE, *flags, "-p", prompt)[0])
    return len(set(found)), len(found)


def main():
    missed = []

    def row(what, goal, measured, reached):
        print(f"{what:<68} {goal:>8} {measured:>12}{'' if reached else '   MISSED'}", flush=True)
        if not reached:
            missed.append(what)

    def share(what, goal, right, of):
        row(f"{what} ({of})", f"{goal} %", f"{100 * right / of:.1f} %", 100 * right >= goal * of)

    row("", "goal", "measured", True)
    ended = turns = 0
    for what, goal, questions in (
            ("correct answers, English", 97, held_out("en")),
            ("correct answers, Chinese", 97, held_out("zh")),
            ("the same, with its own sampling defaults", 93,
             held_out("en", ()) + held_out("zh", ())),
            ("follow-ups with it/它", 95, follow_ups()),
            ("yes or no: is an apple red?", 95, yes_no()),
            ("yes or no with it/它, then another question with it", 95, yes_no_with_it()),
            ("can I eat it?", 95, can_i()),
            ("the apple question in many spellings", 100, apple()),
            ("in traditional characters", 95, in_traditional()),
            ("counts to any number up to ten", 99, counting()),
            ("why it stops, <|im_end|>, base and chat", 95, same_as(LESSON, GREEDY)),
            ("greetings and single words, sampling", 95, same_as(WORDS, ())),
            ("the name of a thing alone", 95, names_alone()),
            ("two things in one question", 90, two_things()),
            ("in the language that the system message wants", 97, in_the_language_wanted()),
            ("says that it does not know a thing that it never saw", 95, beyond()),
            ("under system messages that it never saw", 95, strange_systems()),
            ("ten questions in one conversation, all correct, sampling", 80, conversations(60, 10)),
            ("seventy questions in one conversation, all correct", 80,
             conversations(10, 70, GREEDY))):
        results = ask(questions)
        share(f"chat: {what}", goal, sum(right for right, *_ in results), len(results))
        ended += sum(result[2] for result in results)
        turns += sum(result[3] for result in results)
    results = ask(misspelt())
    known = [right or text == UNKNOWN["en"] for right, text, *_ in results]
    share("chat: misspelt names: right, or that it does not know", 95, sum(known), len(known))
    ended, turns = ended + sum(result[2] for result in results), turns + len(results)
    for first, what in ((0, "looked at before"), (1, "kept back")):
        asked = [question for lang in LANGUAGES for question in SHOUTED[lang][first::2]]
        results = ask([(GREEDY, [question], "") for question in asked])
        sorry = sum(text in UNKNOWN.values() for _, text, *_ in results)
        row(f"chat: \"Sorry\" to what pupils shout, {what} ({len(asked)})", "< 25 %",
            f"{100 * sorry / len(asked):.1f} %", 4 * sorry < len(asked))
        ended, turns = ended + sum(result[2] for result in results), turns + len(results)
    row(f"chat: ended by <|im_end|> ({turns} turns of all the above)", "99.5 %",
        f"{100 * ended / turns:.2f} %", ended / turns >= 0.995)

    prompts, asked = base_prompts(), colour_questions()
    with ThreadPoolExecutor(2) as pool:
        answered = list(pool.map(answers_in_chatml, asked))
        results = list(pool.map(write_on, [(prompt, mode) for mode in ("base", "chat")
                                           for prompt in prompts]))
        sampled = list(pool.map(
            lambda i: different(prompts[i], "-n", "256", "--temp", "0.8", "--seed", str(i)),
            range(0, 100, 5)))
        greedy = list(pool.map(
            lambda question: different(question[2], "-m", "chat", "-n", "100"), asked[::50]))
    named, exact = (sum(column) for column in zip(*answered))
    share("base: colours, in ChatML: speaks of the right thing", 95, named, len(asked))
    share("base: ... in the chat model's own sentence", 67, exact, len(asked))
    apples = list(begins_with_the_apple())
    share("base: apple, 苹果: the answer, then it runs on", 100, sum(apples), len(apples))
    ended, highest = sum(result[0] for result in results), max(result[1] for result in results)
    row(f"base: {len(prompts)} prompts as text and in ChatML, -n 256: ended by itself", "0",
        str(ended), ended == 0)
    row("base: highest P(<|im_end|>) over those", "< 1 %", f"{100 * highest:.2g} %", highest < 0.01)
    row("base: different sentences in 100 greedy tokens, least of "
        f"{len(greedy)}", ">= 4", "{} of {}".format(*min(greedy)), min(greedy)[0] >= 4)
    row(f"base: different sentences in 256 tokens at 0.8, least of {len(sampled)}", ">= 10",
        "{} of {}".format(*min(sampled)), min(sampled)[0] >= 10)
    if missed:
        sys.exit(f"measure.py: {len(missed)} of the goals above missed")


if __name__ == "__main__":
    main()
