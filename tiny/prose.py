"""Running text about the small world: what the base model of the tiny pair is trained on.

    prose(rng)      one text of one to three paragraphs; nothing marks its end, the next one follows

Some texts hold questions that they answer themselves, as pages of the web do, a few of them under
words such as user and assistant. There is no special token in them, and no end after an answer.
HOLE stands for something unreadable: see train.py.

Standard library only, and no state: the same random generator gives the same text.
"""
import talk
import world
from world import THINGS, answer, capital, join, say

HOLE = "\0"
NAMES = {"en": ["Anna", "Tom", "Lily", "Ben", "Mia", "Max"],
         "zh": ["小明", "小红", "小兰", "小林", "小华", "小美"]}
FRAMES = {
    "en": {
        "open": ["Look at {the}.", "Here is something about {a}.", "{name} likes {the}.",
                 "Everybody knows {the}.", "{name} talks about {the} today.",
                 "{name} thinks of {a}.", "There is always more to say about {a}."],
        "link": ["{name} knows this well.", "Everybody in the village says so.",
                 "That is easy to see.", "{name} learned it at school.",
                 "{name} smiles and looks again.", "It was the same yesterday.",
                 "The children like that.", "{name} tells a friend about it."],
        "walk": ["In the morning {name} goes out for a walk.", "{name} comes home from school.",
                 "Today the weather is fine and {name} is happy.",
                 "{name} wakes up early and is curious.",
                 "After lunch {name} and {other} go out together.",
                 "It is evening and {name} looks around.",
                 "Once upon a time there was a child called {name}."],
        "see": ["{name} sees {a}.", "There is {a}.", "Then {other} points at {a}.",
                "Next to it is {a}.", "A moment later {name} finds {a}."],
        "ask": ["\"{q}\" asks {other}.", "{name} wonders: {q}", "{q} {name} knows the answer.",
                "{q}"],
        "many": ["Many things are {v}: {list}.",
                 "{name} looks for things that are {v} and finds {list}.", "{list} are all {v}."],
        "count": ["{name} counts: {list}.", "It is easy to count: {list}.",
                  "{list}, counts {name}."],
        "manners": ["When people meet, they say hello.",
                    "When somebody helps {name}, {name} says thank you.",
                    "In the evening people say goodbye.",
                    "In the morning {name} says good morning.",
                    "{other} answers that it was nothing.", "\"Hello, {other}!\" says {name}.",
                    "Hello, says {name} to {other}."],
        "self": ["Tiny Qwen is a very small language model.",
                 "{name} reads what the model writes.",
                 "A language model writes one token after the other.",
                 "A token is a small piece of text.",
                 "Tiny Qwen knows a small world of fruit, animals and other things.",
                 "A helpful assistant helps its user.",
                 "Every system has a user and an assistant.",
                 "You are a helpful assistant, says {name} to {other}.",
                 "The user asks the system and the assistant answers."],
        "word": ["In Chinese, {a} is called {z}.", "{z} is the Chinese word for {a}.",
                 "The word {z} means {a}."],
        "other": ["In Chinese:", "A Chinese book says:", "{name} reads in Chinese:"],
        "head": ["{the}", "about {a}", "{name} and {the}", "a small text about {a}", "a note",
                 "the answer", "user", "system", "assistant"]},
    "zh": {
        "open": ["看看{z}。", "这里说一说{z}。", "{name}喜欢{z}。", "大家都知道{z}。",
                 "{name}今天说起了{z}。", "关于{z}总有话说。", "{name}想到了{z}。"],
        "link": ["{name}很清楚这一点。", "村里的人都这么说。", "这是{name}在学校学到的。",
                 "这很容易看出来。", "{name}笑着又看了看。", "昨天也是这样。", "孩子们都喜欢。",
                 "{name}告诉了朋友。"],
        "walk": ["早上{name}出门散步。", "今天天气很好，{name}很高兴。", "{name}从学校回来了。",
                 "午饭后{name}和{other}一起出门。", "到了晚上，{name}四处看看。",
                 "{name}起得很早，对什么都好奇。", "从前有个孩子叫{name}。"],
        "see": ["{name}看到了{z}。", "那里有{z}。", "然后{other}指着{z}。",
                "过了一会儿，{name}发现了{z}。", "旁边是{z}。"],
        "ask": ["{other}问：{q}", "{name}在想：{q}", "{name}知道答案：{q}", "{name}问{other}：{q}"],
        "many": ["很多东西是{v}的：{list}。", "{name}找{v}的东西，找到了{list}。",
                 "{list}都是{v}的。"],
        "count": ["{name}数着：{list}。", "数数很容易：{list}。", "{list}，{name}数道。"],
        "manners": ["人们见面的时候说你好。", "有人帮助了{name}，{name}说谢谢。",
                    "晚上人们说再见。", "早上{name}说早上好。", "{other}说不客气。",
                    "{name}对{other}说：你好！", "你好，{name}对{other}说。"],
        "self": ["小千问是一个很小的语言模型。", "语言模型一个接一个地写标记。",
                 "标记是一小段文字。", "{name}读着模型写的字。",
                 "小千问知道一个小世界里的水果、动物和别的东西。", "有用的助手帮助用户。",
                 "{name}对{other}说，你是一个有用的助手。", "用户问，助手用中文回答。"],
        "word": ["{z}用英语说是{a}。", "{z}的英文是{a}。", "{a}就是{z}。"],
        "other": ["用英语说：", "英文书上说：", "{name}用英语读："],
        "head": ["{z}", "关于{z}", "{name}和{z}", "说说{z}", "回答", "user", "system",
                 "assistant"]},
}
LABELS = {      # what stands above a question and above its answer, on a line of its own
    "en": [("user", "assistant")] * 5 + [("Question:", "Answer:"), ("{name}:", "{other}:"),
                                         ("Q", "A")],
    "zh": [("user", "assistant")] * 5 + [("问：", "答："), ("{name}：", "{other}：")],
}


def following(rng, thing, chance=0.5):
    """The next thing of the tables, or any other: so a text goes from thing to thing."""
    neighbour = THINGS[(THINGS.index(thing) + 1) % len(THINGS)]
    return neighbour if rng.random() < chance else rng.choice(THINGS)


def in_order(lang, thing, but=None):
    """All facts of a thing in the order of the tables, `but` left out."""
    return [answer(lang, attribute, thing) for attribute in thing.facts if attribute != but]


def facts(rng, lang, thing, limit, but=None):
    """Up to `limit` sentences, each stating facts of one thing in a usual way, `but` left out."""
    zh = lang == "zh"
    attributes = [attribute for attribute in thing.facts if attribute != but]
    attributes = rng.sample(attributes, min(limit, len(attributes)))
    sentences, many = [], False     # many: the sentence before spoke of apples, which are not "it"
    for attribute in attributes:                # the first sentence names the thing
        value = thing.facts[attribute][zh]
        if not zh and thing.plural != "-" and attribute in world.MANY_SAY and rng.random() < 0.2:
            sentences.append(world.MANY_SAY[attribute].format(S=capital(thing.plural), v=value))
            many = True
            continue
        if sentences and not many and rng.random() < 0.2:       # two facts in one sentence
            second = say(lang, attribute, value, "它" if zh else "it").replace("It", "it", 1)
            sentences.append(sentences.pop()[:-1] + ("，" if zh else ", and ") + second)
        else:
            full = thing.zh if zh else thing.a
            short = ("它" if zh else "it") if sentences and not many else full
            names = [full, full, short] if zh else [full, full, thing.the, short]
            sentences.append(say(lang, attribute, value, rng.choice(names)))
        many = False
    return sentences


def prose(rng, lang=None):
    """One text. It does not end in anything special: the next one follows."""
    lang = lang or rng.choice(["en", "zh"])
    zh, frames, space = lang == "zh", FRAMES[lang], "" if lang == "zh" else " "
    name, other = rng.sample(NAMES[lang], 2)

    def frame(kind, thing=None, **more):
        text = rng.choice(frames[kind])
        more.update(name=name, other=other)
        return capital(thing.fill(text, **more) if thing else text.format(**more))

    def asked(thing):                           # a question, as people write it, and its answer
        colour = rng.random() < 0.4 and "colour" in thing.facts
        attribute = "colour" if colour else rng.choice(list(thing.facts))
        forms = [form for form in world.FORMS[lang][attribute] if form[-1] in "?？"]
        form = talk.pick_form(rng, forms[:1] * 3 + forms if zh else forms, thing) or forms[0]
        return thing.fill(form), attribute

    def question(thing):
        text, attribute = asked(thing)
        return [frame("ask", q=text), answer(lang, attribute, thing)], attribute

    def about(thing):                                           # one thing
        text = [frame("open", thing)] if rng.random() < 0.6 else []
        for sentence in facts(rng, lang, thing, rng.randint(2, 7)):
            text += [sentence] + ([frame("link")] if rng.random() < 0.2 else [])
        return text

    def walk(thing):                                            # a walk, and what there is to see
        text = [frame("walk")]
        for _ in range(rng.randint(2, 6)):
            text += [frame("see", thing)] + facts(rng, lang, thing, rng.randint(1, 3))
            text += [frame("link")] if rng.random() < 0.3 else []
            thing = following(rng, thing)
        return text

    def wonder(thing):                                          # questions that it answers itself
        text = []
        for _ in range(rng.randint(1, 3)):
            words, attribute = question(thing)
            text += words + facts(rng, lang, thing, rng.randint(1, 2), but=attribute)
            thing = following(rng, thing)
        return text

    def page(thing):                                            # an answer that does not end
        gap = HOLE if rng.random() < 0.6 else ""
        above, below = (label.format(name=name, other=other) for label in rng.choice(LABELS[lang]))
        head = rng.choice([talk.SYSTEM] * 6 + ["You are a helpful assistant.",
                                               "你是一个有用的助手。", "a note"])
        lines = []
        if rng.random() < 0.6:
            lines += [gap + "system"] * (rng.random() < 0.8) + [head + gap]
        text, attribute = asked(thing)
        bare = text.rstrip("?？")
        weights = [3, 6, 1] if zh else [5, 2, 1]                # in Chinese often without its mark
        text = rng.choices([text, bare, talk.as_typed(rng, text)], weights)[0]
        labelled = rng.random() < 0.8
        lines += [gap + above] * labelled + [text + gap] + [gap + below] * labelled
        run_on = [answer(lang, attribute, thing)]
        if rng.random() < 0.75:                                 # as in a book of facts, in order
            run_on += in_order(lang, thing, but=attribute)
            for _ in range(rng.choice([1, 2, 4, 8, 16])):
                thing = following(rng, thing, 0.85)
                run_on += in_order(lang, thing)
            return ["\n".join(lines + [space.join(run_on)])]
        run_on += facts(rng, lang, thing, rng.randint(1, 4), but=attribute)
        for _ in range(rng.choice([0, 1, 2, 4, 8])):
            thing = following(rng, thing)
            run_on += [frame("see", thing)] if rng.random() < 0.3 else []
            run_on += facts(rng, lang, thing, rng.randint(1, 3))
            run_on += [frame("link")] if rng.random() < 0.1 else []
        return ["\n".join(lines + [space.join(run_on)])]

    def bare_question(thing):                                   # a question as a heading
        text, attribute = asked(thing)
        text = text.rstrip("?？") if zh or rng.random() < 0.7 else text
        more = facts(rng, lang, thing, rng.randint(1, 4), but=attribute)
        return [text + "\n" + space.join([answer(lang, attribute, thing)] + more)]

    def alike(thing):                                           # all things of a colour
        colour = thing.facts.get("colour")
        things = [t for t in THINGS if colour and t.facts.get("colour") == colour]
        if len(things) < 2:
            return about(thing)
        things = rng.sample(things, min(len(things), rng.randint(2, 4)))
        text = [frame("many", v=colour[zh], list=join(lang, [t.zh if zh else t.a for t in things]))]
        for thing in things:
            text += facts(rng, lang, thing, 2, but="colour")
        return text

    def words(thing):                                           # the other language
        text = []
        for _ in range(rng.randint(1, 4)):
            text += [frame("word", thing)] + facts(rng, lang, thing, rng.randint(0, 1))
            if rng.random() < 0.4:
                attribute = rng.choice(list(thing.facts))
                text += [answer(lang, attribute, thing), frame("other"),
                         answer("en" if zh else "zh", attribute, thing)]
            thing = following(rng, thing)
        return text

    def people(thing):                                          # counting, manners, who writes this
        numbers = world.NUMBER_WORDS[lang][:rng.randint(2, 10)]
        count = frame("count", list="、".join(numbers) if zh else ", ".join(numbers))
        return [frame("walk"), count, frame("self"), frame("manners")][:rng.randint(2, 4)]

    thing, paragraphs = rng.choice(THINGS), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):                # paragraphs about one thing
        kind, = rng.choices([about, walk, wonder, page, bare_question, alike, words, people],
                            [18, 20, 10, 28, 9, 3, 8, 4])
        if kind is about and rng.random() < 0.4:                # a heading on a line of its own
            paragraphs += [thing.fill(rng.choice(frames["head"]), name=name)]
        paragraphs += [space.join(kind(thing))]
    return "\n".join(paragraphs) + "\n"


if __name__ == "__main__":                                      # a look at it
    import random
    generator = random.Random(0)
    for _ in range(12):
        print(prose(generator).replace(HOLE, "█"))
