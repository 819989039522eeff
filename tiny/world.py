"""The small world of the tiny pair, in English and Chinese: its things, what is asked about them, what is written about them.

    THINGS, FORMS      the facts, and every way to ask for one
    questions()        all (form, thing) pairs with their right answers; held_out() keeps a fifth of them from training
    prose(rng)         some running text: what the base model is trained on
    dialogue(rng)      a conversation: what the chat model is fine-tuned on

Standard library only, and no state: the same random generator gives the same text.
"""
import zlib

# Values: the English and the Chinese for each word that the tables below use.
COLOURS = {"red": "红色", "green": "绿色", "yellow": "黄色", "orange": "橙色", "purple": "紫色", "brown": "棕色",
           "white": "白色", "black": "黑色", "grey": "灰色", "pink": "粉色", "blue": "蓝色"}
TASTES = {"sweet": "甜", "sour": "酸", "salty": "咸", "bitter": "苦", "hot": "辣", "mild": "淡"}
NUMBERS = {"no": "没有", "two": "两", "three": "三", "four": "四", "six": "六", "eight": "八"}
SOUNDS = {"meow": "喵喵", "woof": "汪汪", "moo": "哞哞", "oink": "哼哼", "baa": "咩咩", "neigh": "咴咴", "quack": "嘎嘎",
          "cluck": "咯咯", "ribbit": "呱呱", "tweet": "啾啾", "buzz": "嗡嗡", "roar": "吼吼", "squeak": "吱吱", "hiss": "嘶嘶",
          "hoot": "咕咕", "howl": "嗷嗷", "vroom": "轰轰", "beep": "嘀嘀", "choo-choo": "呜呜", "ring": "铃铃", "whoosh": "呼呼",
          "wee-woo": "呜哇", "tick-tock": "滴答", "ding-dong": "叮当", "boom": "咚咚", "splash": "哗哗"}
PLACES = {"garden": ("in the garden", "花园里"), "field": ("in the field", "田里"), "market": ("at the market", "市场上"),
          "kitchen": ("in the kitchen", "厨房里"), "house": ("in the house", "家里"), "farm": ("on the farm", "农场里"),
          "pond": ("at the pond", "池塘里"), "forest": ("in the forest", "森林里"), "grassland": ("on the grassland", "草原上"),
          "sea": ("in the sea", "海里"), "street": ("on the street", "街上"), "station": ("at the station", "车站里"),
          "river": ("on the river", "河上"), "sky": ("in the sky", "天上"), "bedroom": ("in the bedroom", "卧室里"),
          "bathroom": ("in the bathroom", "浴室里"), "school": ("at school", "学校里"), "hall": ("in the hall", "门厅里")}
USES = {"eating": "吃", "drinking": "喝", "driving": "开", "riding": "骑", "travelling": "旅行", "flying": "飞", "sailing": "航行",
        "putting out fires": "灭火", "sitting": "坐", "sleeping": "睡觉", "working": "工作", "giving light": "照明",
        "telling the time": "看时间", "eating soup": "喝汤", "cutting": "切东西", "cooking": "做饭", "sweeping": "扫地",
        "keeping dry": "挡雨", "opening doors": "开门", "reading": "阅读", "writing": "写字", "playing": "玩",
        "making music": "演奏音乐", "calling": "打电话", "washing": "洗手", "seeing yourself": "照自己", "walking": "走路",
        "carrying things": "装东西"}

# A block for each kind: its name, what the columns hold, then the things. "-" for a fact that this world does not know
# and for the plural of a word that has none; "the_" before a thing that there is one of, "_" for a space in a name.
TABLES = """
a fruit=一种水果 colour taste place use
apple apples 苹果 red sweet garden eating
banana bananas 香蕉 yellow sweet market eating
lemon lemons 柠檬 yellow sour kitchen eating
orange oranges 橙子 orange sweet market eating
grape grapes 葡萄 purple sweet garden eating
strawberry strawberries 草莓 red sweet garden eating
cherry cherries 樱桃 red sweet garden eating
pear pears 梨 green sweet garden eating
peach peaches 桃子 pink sweet market eating
watermelon watermelons 西瓜 green sweet field eating
mango mangoes 芒果 yellow sweet market eating
plum plums 李子 purple sour garden eating
pineapple pineapples 菠萝 yellow sweet market eating

a vegetable=一种蔬菜 colour taste place use
carrot carrots 胡萝卜 orange sweet field eating
tomato tomatoes 西红柿 red sour garden eating
potato potatoes 土豆 brown mild field eating
onion onions 洋葱 white hot kitchen eating
cucumber cucumbers 黄瓜 green mild garden eating
chilli chillies 辣椒 red hot market eating
pumpkin pumpkins 南瓜 orange sweet field eating

a food=一种食物 colour taste place use
bread - 面包 brown mild kitchen eating
rice - 米饭 white mild kitchen eating
cheese - 奶酪 yellow salty kitchen eating
salt - 盐 white salty kitchen cooking
sugar - 糖 white sweet kitchen cooking
honey - 蜂蜜 yellow sweet market eating
chocolate - 巧克力 brown sweet market eating
egg eggs 鸡蛋 white mild farm eating
cake cakes 蛋糕 pink sweet kitchen eating

a drink=一种饮料 colour taste place use
milk - 牛奶 white mild kitchen drinking
coffee - 咖啡 black bitter kitchen drinking
tea - 茶 green bitter house drinking

an animal=一种动物 colour sound legs place
cat cats 猫 grey meow four house
dog dogs 狗 brown woof four house
cow cows 牛 black moo four farm
pig pigs 猪 pink oink four farm
sheep - 羊 white baa four farm
horse horses 马 brown neigh four farm
duck ducks 鸭子 yellow quack two pond
hen hens 母鸡 brown cluck two farm
frog frogs 青蛙 green ribbit four pond
bird birds 小鸟 blue tweet two sky
bee bees 蜜蜂 yellow buzz six garden
lion lions 狮子 yellow roar four grassland
tiger tigers 老虎 orange roar four forest
bear bears 熊 brown roar four forest
elephant elephants 大象 grey - four grassland
mouse mice 老鼠 grey squeak four house
snake snakes 蛇 green hiss no forest
fish - 鱼 orange - no pond
whale whales 鲸鱼 blue splash no sea
owl owls 猫头鹰 brown hoot two forest
wolf wolves 狼 grey howl four forest
rabbit rabbits 兔子 white - four field
goose geese 鹅 white quack two farm
ant ants 蚂蚁 black - six garden
spider spiders 蜘蛛 black - eight house
butterfly butterflies 蝴蝶 blue - six garden
turtle turtles 乌龟 green - four pond
monkey monkeys 猴子 brown - two forest

a vehicle=一种交通工具 colour sound wheels place use
car cars 汽车 red vroom four street driving
bus buses 公共汽车 yellow beep four street travelling
taxi taxis 出租车 yellow beep four street travelling
train trains 火车 green choo-choo eight station travelling
bicycle bicycles 自行车 blue ring two street riding
fire_engine fire_engines 消防车 red wee-woo six street putting out fires
tractor tractors 拖拉机 green vroom four farm working
boat boats 船 white splash no river sailing
plane planes 飞机 white whoosh three sky flying

a piece of furniture=一种家具 colour legs place use
table tables 桌子 brown four kitchen eating
chair chairs 椅子 brown four kitchen sitting
bed beds 床 white four bedroom sleeping
sofa sofas 沙发 green four house sitting
desk desks 书桌 brown four school writing

a tool=一种工具 colour place use
lamp lamps 台灯 yellow bedroom giving light
spoon spoons 勺子 grey kitchen eating soup
knife knives 刀 grey kitchen cutting
cup cups 杯子 white kitchen drinking
plate plates 盘子 white kitchen eating
pot pots 锅 black kitchen cooking
broom brooms 扫帚 brown house sweeping
umbrella umbrellas 雨伞 black hall keeping dry
key keys 钥匙 yellow hall opening doors
book books 书 blue school reading
pencil pencils 铅笔 yellow school writing
pen pens 钢笔 black school writing
soap - 肥皂 white bathroom washing
mirror mirrors 镜子 grey bathroom seeing yourself
shoe shoes 鞋子 black hall walking
bag bags 书包 red school carrying things
ball balls 球 red garden playing

a thing with a sound=一种会响的东西 colour sound place use
clock clocks 时钟 white tick-tock hall telling the time
bell bells 铃铛 yellow ding-dong school making music
drum drums 鼓 red boom school making music
phone phones 电话 black ring house calling

a part of nature=自然的一部分 colour place
the_sun - 太阳 yellow sky
the_moon - 月亮 white sky
the_sky - 天空 blue -
the_sea - 大海 blue -
snow - 雪 white field
grass - 草 green field
tree trees 树 green forest
leaf leaves 叶子 green forest
rose roses 玫瑰 red garden
sunflower sunflowers 向日葵 yellow field
cloud clouds 云 white sky
"""



class Thing:
    """One thing: its names in both languages, and facts[attribute] = (English, Chinese)."""

    def __init__(self, name, plural, zh, facts):
        self.bare = name.replace("the_", "").replace("_", " ")
        self.the = "the " + self.bare
        self.plural, self.zh, self.facts = plural.replace("_", " "), zh, facts
        if name.startswith("the_"):
            self.a = self.the                                   # the sun
        elif plural == "-":
            self.a = name                                       # milk; a sheep and a fish count as well, see below
        else:
            self.a = ("an " if name[0] in "aeiou" else "a ") + name.replace("_", " ")
        if name in ("sheep", "fish"):
            self.a, self.plural = "a " + name, name

    def fill(self, template, **more):
        return template.format(a=self.a, the=self.the, n=self.bare, s=self.plural, z=self.zh, **more)


def read_tables():
    values = {"colour": lambda v: (v, COLOURS[v]), "taste": lambda v: (v, TASTES[v]), "sound": lambda v: (v, SOUNDS[v]),
              "legs": lambda v: (v, NUMBERS[v]), "wheels": lambda v: (v, NUMBERS[v]),
              "place": PLACES.get, "use": lambda v: (v, USES[v])}
    things = []
    for block in TABLES.strip().split("\n\n"):
        head, *rows = block.split("\n")
        kind, columns = head.split("=")[0], head.split("=")[1].split()
        kind = (kind, columns.pop(0))
        for row in rows:
            name, plural, zh, *cells = row.split(" ", 2 + len(columns))
            things.append(Thing(name, plural, zh, {"kind": kind, **{c: values[c](v) for c, v in zip(columns, cells) if v != "-"}}))
    return things


THINGS = read_tables()

# The answer to each attribute, also what the prose says. {S} and {s}: the subject, with and without a capital; {v}: the value.
SAYS = {
    "en": {"kind": "{S} is {v}.", "colour": "{S} is {v}.", "taste": "{S} tastes {v}.", "sound": "{S} goes {v}.",
           "legs": "{S} has {v} legs.", "wheels": "{S} has {v} wheels.", "place": "{S} is {v}.", "use": "{S} is for {v}."},
    "zh": {"kind": "{s}是{v}。", "colour": "{s}是{v}的。", "taste": "{s}是{v}的。", "sound": "{s}的声音是{v}。",
           "legs": "{s}有{v}条腿。", "wheels": "{s}有{v}个轮子。", "place": "{s}在{v}。", "use": "{s}是用来{v}的。"},
}

MANY_SAY = {"colour": "{S} are {v}.", "taste": "{S} taste {v}.", "sound": "{S} go {v}.", "legs": "{S} have {v} legs.",
            "wheels": "{S} have {v} wheels.", "place": "{S} are {v}.", "use": "{S} are for {v}."}       # of apples, in the prose

# Every way to ask. {a}: "an apple", {the}: "the apple", {n}: "apple", {s}: "apples", {z}: 苹果.
FORMS = {
    "en": {
        "kind": ["What is {a}?", "What are {s}?", "What kind of thing is {a}?", "Do you know what {a} is?", "Can you tell me what {a} is?",
                 "What sort of thing is {a}?", "What's {a}?"],
        "colour": ["What colour is {a}?", "What color is {a}?", "What colour is {the}?", "What color is {the}?", "What colour are {s}?",
                   "What color are {s}?", "What is the colour of {a}?", "What is the color of {a}?", "Which colour does {a} have?",
                   "Do you know what colour {a} is?", "Tell me the colour of {a}.", "Can you tell me what color {a} is?",
                   "What is the colour of {the}?", "What is the color of {s}?", "What's the colour of {a}?", "What colour is {n}?",
                   "What color is {n}?", "What colour do {s} have?", "The colour of {a}?"],
        "taste": ["What does {a} taste like?", "How does {a} taste?", "What do {s} taste like?", "What is the taste of {a}?",
                  "Do you know how {a} tastes?", "Tell me the taste of {a}.", "What taste does {a} have?"],
        "sound": ["What sound does {a} make?", "What does {a} sound like?", "What sound do {s} make?", "What is the sound of {a}?",
                  "Which sound does {a} make?", "Do you know what sound {a} makes?", "What noise does {a} make?", "What does {a} say?",
                  "What does {the} say?"],
        "legs": ["How many legs does {a} have?", "How many legs do {s} have?", "How many legs are there on {a}?",
                 "Do you know how many legs {a} has?", "Tell me how many legs {a} has.", "How many legs has {a}?"],
        "wheels": ["How many wheels does {a} have?", "How many wheels do {s} have?", "How many wheels are there on {a}?",
                   "Do you know how many wheels {a} has?", "Tell me how many wheels {a} has.", "How many wheels has {a}?"],
        "place": ["Where is {a}?", "Where is {the}?", "Where can I find {a}?", "Where can I see {a}?", "Where are {s}?",
                  "Do you know where {a} is?", "Where do you find {a}?"],
        "use": ["What is {a} for?", "What are {s} for?", "What is the use of {a}?", "What do you use {a} for?",
                "Do you know what {a} is for?", "What can I do with {a}?"],
    },
    "zh": {
        "kind": ["{z}是什么？", "什么是{z}？", "请问{z}是什么？", "你知道{z}是什么吗？", "{z}是一种什么东西？", "{z}是什么东西？"],
        "colour": ["{z}是什么颜色？", "{z}是什么颜色的？", "{z}的颜色是什么？", "{z}什么颜色？", "请问{z}是什么颜色？",
                   "你知道{z}是什么颜色吗？", "告诉我{z}的颜色。", "{z}有什么颜色？", "{z}的颜色？", "{z}是啥颜色？",
                   "{z}的颜色是什么样的？"],
        "taste": ["{z}是什么味道？", "{z}是什么味道的？", "{z}的味道是什么？", "{z}什么味道？", "{z}的味道怎么样？", "{z}吃起来怎么样？",
                  "你知道{z}是什么味道吗？"],
        "sound": ["{z}的声音是什么？", "{z}发出什么声音？", "{z}是什么声音？", "{z}的声音是什么样的？", "你知道{z}的声音吗？", "{z}怎么叫？",
                  "{z}怎么叫的？", "{z}会发出什么声音？"],
        "legs": ["{z}有几条腿？", "{z}有多少条腿？", "{z}几条腿？", "请问{z}有几条腿？", "你知道{z}有几条腿吗？", "告诉我{z}有几条腿。"],
        "wheels": ["{z}有几个轮子？", "{z}有多少个轮子？", "{z}几个轮子？", "请问{z}有几个轮子？", "你知道{z}有几个轮子吗？",
                   "告诉我{z}有几个轮子。"],
        "place": ["{z}在哪里？", "{z}在哪儿？", "哪里有{z}？", "在哪里能看到{z}？", "请问{z}在哪里？", "你知道{z}在哪里吗？",
                  "哪里能找到{z}？"],
        "use": ["{z}有什么用？", "{z}是用来做什么的？", "{z}是干什么用的？", "{z}能做什么？", "请问{z}有什么用？",
                "你知道{z}有什么用吗？"],
    },
}
IT_FORMS = {                                    # these need a turn before them
    "en": {
        "kind": ["What is it?", "And what is it?", "What kind of thing is it?"],
        "colour": ["What colour is it?", "What color is it?", "And what colour is it?", "What is its colour?", "And its color?",
                   "Its colour?", "Colour?"],
        "taste": ["What does it taste like?", "How does it taste?", "And what does it taste like?", "And its taste?"],
        "sound": ["What sound does it make?", "And what sound does it make?", "What is its sound?", "And its sound?", "What does it say?"],
        "legs": ["How many legs does it have?", "And how many legs does it have?", "And its legs?"],
        "wheels": ["How many wheels does it have?", "And how many wheels does it have?", "And its wheels?"],
        "place": ["Where is it?", "And where is it?", "Where can I find it?", "Where can I see it?", "Where?"],
        "use": ["What is it for?", "And what is it for?", "What can I do with it?", "What is its use?"],
    },
    "zh": {
        "kind": ["它是什么？", "那它是什么？", "它是什么东西？"],
        "colour": ["它是什么颜色？", "它是什么颜色的？", "它的颜色是什么？", "那它是什么颜色？", "它什么颜色？", "它的颜色呢？",
                   "颜色呢？"],
        "taste": ["它是什么味道？", "它的味道是什么？", "那它是什么味道？", "它吃起来怎么样？"],
        "sound": ["它的声音是什么？", "它发出什么声音？", "那它的声音呢？", "它怎么叫？"],
        "legs": ["它有几条腿？", "它有多少条腿？", "那它有几条腿？"],
        "wheels": ["它有几个轮子？", "它有多少个轮子？", "那它有几个轮子？"],
        "place": ["它在哪里？", "它在哪儿？", "那它在哪里？", "哪里有它？", "在哪里？"],
        "use": ["它有什么用？", "它是用来做什么的？", "那它有什么用？"],
    },
}

# The rest of what can be said to it: (what a person says, the answer).
TALK = {
    "en": [(["Hello", "Hello!", "Hi", "Hi!", "Hi there!", "Hey", "Hello there!", "Good morning!", "Good evening!", "Good afternoon!",
             "Hello hello"], "Hello! How can I help you?"),
           (["Thank you.", "Thank you!", "Thanks", "Thanks!", "Thanks a lot!", "Thank you very much!", "Thank you so much!",
             "Many thanks!"], "You are welcome."),
           (["Bye", "Bye!", "Goodbye!", "Bye bye!", "Good night!", "See you!"], "Goodbye!"),
           (["How are you?", "How are you today?", "Are you well?", "Hello, how are you?", "How do you do?"], "I am fine, thank you."),
           (["Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Are you a person?", "Are you Qwen?",
             "Who are you really?", "Are you a robot?", "Are you a human?", "Are you human?", "Are you a computer?", "What's your name?",
             "Introduce yourself."],
            "I am Tiny Qwen, a very small language model."),
           (["What can you do?", "What do you know?", "Can you help me?", "Help", "Please help me.", "What can I ask you?"],
            "I know a small world of fruit, animals and other things. Ask me about their colours."),
           (["Good.", "OK", "Great!", "Well done!", "I see.", "That is right.", "Yes", "Nice!", "Cool"], "I am glad to help."),
           (["Can you speak Chinese?", "Do you speak Chinese?", "Do you speak English?", "Which languages do you speak?"],
            "I speak English and Chinese.")],
    "zh": [(["你好", "你好！", "您好！", "嗨", "早上好！", "晚上好！", "下午好！", "你好呀", "您好", "早", "哈喽"],
            "你好！我能帮你什么？"),
           (["谢谢", "谢谢！", "谢谢你！", "多谢！", "非常感谢！", "谢谢你的帮助", "感谢"], "不客气。"),
           (["再见", "再见！", "拜拜", "晚安！", "下次见！"], "再见！"),
           (["你好吗？", "你怎么样？", "你今天好吗？", "你好，你好吗？"], "我很好，谢谢。"),
           (["你是谁？", "你叫什么？", "你叫什么名字？", "你是什么？", "你是人吗？", "介绍一下你自己。", "你是千问吗？", "请问你是谁？",
             "你是机器人吗？", "你的名字是什么？"],
            "我是小千问，一个很小的语言模型。"),
           (["你会什么？", "你能做什么？", "你知道什么？", "帮帮我", "我能问你什么？"],
            "我知道一个小世界里的水果、动物和别的东西。问我它们的颜色吧。"),
           (["好的", "好", "太好了！", "很好", "对了", "明白了", "是的", "不错"], "很高兴能帮你。"),
           (["你会说中文吗？", "你会说英语吗？", "你会英文吗？", "你说什么语言？"], "我说中文和英语。")],
}
NUMBER_WORDS = {"en": "one two three four five six seven eight nine ten".split(), "zh": list("一二三四五六七八九十")}
COUNT = {"en": ["Count to {n}.", "Count from one to {n}.", "Can you count to {n}?", "Please count to {n}.", "Count up to {n}."],
         "zh": ["数到{n}。", "从一数到{n}。", "请数到{n}。", "你能数到{n}吗？", "请从一数到{n}。"]}
DESCRIBE = {"en": ["Tell me about {a}.", "Describe {a}.", "What do you know about {a}?", "Tell me something about {s}.",
                   "What can you tell me about {a}?", "{a}", "{n}", "{n}?", "{s}", "{the}"],
            "zh": ["介绍一下{z}。", "说说{z}。", "给我讲讲{z}。", "关于{z}你知道什么？", "描述一下{z}。", "{z}", "{z}？"]}
IS_IT = {"en": ["Is {a} {v}?", "Is {the} {v}?"], "zh": ["{z}是{v}的吗？", "{z}是不是{v}的？"]}
IS_A = {"en": ["Is {a} {v}?"], "zh": ["{z}是{v}吗？", "{z}是不是{v}？"]}
WORD = {"en": ["What is {a} in Chinese?", "How do you say {n} in Chinese?", "What is the Chinese word for {a}?",
               "What is {z} in English?"],
        "zh": ["{z}用英语怎么说？", "{z}用英文怎么说？", "{z}的英文是什么？", "{n}是什么意思？", "{n}用中文怎么说？"]}
WORD_IS = {"en": "In Chinese, {a} is called {z}.", "zh": "{z}用英语说是{a}。"}
SAME = {"en": ["And {a}?", "What about {a}?", "How about {a}?", "And {the}?"], "zh": ["{z}呢？", "那{z}呢？", "那么{z}呢？"]}

UNKNOWN = {"en": "Sorry, I do not know.", "zh": "对不起，我不知道。"}
STRANGE = {      # nothing of this is in the world: to learn what not knowing looks like
    "en": """dragon king queen doctor teacher computer robot river mountain island city country hospital university government
        planet galaxy atom electron magnet engine battery laser satellite telescope diamond gold silver iron copper marble
        kangaroo penguin giraffe zebra camel dolphin shark octopus crab eagle parrot pigeon swan lizard crocodile dinosaur
        unicorn ghost wizard pirate castle tower bridge tunnel airport helicopter rocket submarine motorcycle scooter
        violin guitar trumpet flute piano harp window wall roof garage chimney carpet curtain towel candle bottle
        blanket jacket trousers sweater scarf glove hat ring necklace watch camera television radio newspaper magazine letter
        kiwi papaya avocado broccoli spinach cabbage garlic ginger mushroom noodle sandwich pizza burger sausage soup butter
        cinnamon vanilla pepper vinegar wine beer juice lemonade yogurt biscuit candy jelly walnut almond peanut
        volcano desert glacier lake ocean beach cave valley jungle swamp storm rainbow lightning thunder tornado
        lawyer farmer soldier painter singer dancer emperor president mayor judge friend brother sister uncle""".split(),
    "zh": """龙 国王 医生 老师 电脑 机器人 山 岛 城市 国家 医院 大学 政府 行星 银河 原子 电子 磁铁 电池 激光 卫星 望远镜 钻石 金子 银子 铁 铜
        袋鼠 企鹅 长颈鹿 斑马 骆驼 海豚 鲨鱼 章鱼 螃蟹 老鹰 鹦鹉 鸽子 天鹅 蜥蜴 鳄鱼 恐龙 独角兽 鬼 巫师 海盗 城堡 塔 桥 隧道 机场 直升机 火箭
        潜艇 摩托车 小提琴 吉他 笛子 钢琴 窗户 墙 屋顶 车库 烟囱 地毯 窗帘 毛巾 蜡烛 瓶子 毯子 夹克 裤子 毛衣 围巾 手套 帽子 戒指 项链 手表
        相机 电视 收音机 报纸 杂志 信 木瓜 白菜 菠菜 大蒜 生姜 蘑菇 面条 三明治 比萨 汉堡 香肠 黄油 醋 酒 啤酒 果汁 酸奶 饼干 糖果 核桃 花生
        火山 沙漠 冰川 湖 沙滩 山洞 山谷 沼泽 暴风雨 彩虹 闪电 雷 律师 农民 士兵 画家 歌手 皇帝 总统 市长 法官 朋友 哥哥 姐姐 叔叔""".split(),
}
BEYOND = {      # {a}, {s} ...: a thing, of this world or strange to it
    "en": ["What is the capital of {n}?", "What is the capital of France?", "Who is the president?", "Who is the king of {n}?",
           "What time is it?", "What is the weather today?", "Will it rain tomorrow?", "How old are you?", "How old is {a}?",
           "Where do you live?", "Where are you from?", "Why?", "Why is that?", "Why not?", "Why is {a} red?", "Why is {the} so big?",
           "Why do {s} sleep?", "When was it?", "When do {s} sleep?", "Tell me a joke.", "Tell me a story.", "Tell me a story about {a}.",
           "Write a poem.", "Write a poem about {a}.", "Sing a song.", "What is two plus two?", "What is 2 + 2?", "What is 1 + 1?",
           "What is three times four?", "Who wrote this book?", "Who made {the}?", "Who made you?", "Who is your friend?", "Who is he?",
           "How far is London?", "How far is the moon?", "How big is {a}?", "How fast is {a}?", "How heavy is {a}?", "How long is {a}?",
           "How much is {a}?", "How much does it cost?", "Can you sing?", "Can {a} swim?", "Do you like {s}?", "Do you love me?",
           "Are you happy?", "What is love?", "What is the meaning of life?", "Who won the game?", "What day is it today?",
           "What year is it?", "How do I get home?", "How do I make {a}?", "How do {s} work?", "What is my name?", "My name is Anna.",
           "Where am I?", "Translate this.", "Write a program in C.", "Count to 100.", "Count to twenty.", "I like {s}.", "I have {a}.",
           "I want {a}.", "Give me {a}.", "What does it mean?", "What is in {the}?", "Which is better?", "Is it good?", "Really?",
           "Are you sure?", "What?", "How?", "Who?", "No"],
    "zh": ["{z}的首都是哪里？", "法国的首都是哪里？", "总统是谁？", "谁是{z}？", "现在几点？", "今天天气怎么样？", "明天会下雨吗？",
           "你多大了？", "{z}多大了？", "你住在哪里？", "你从哪里来？", "为什么？", "为什么呢？", "为什么{z}是红色的？", "{z}为什么这么大？",
           "{z}什么时候睡觉？", "什么时候？", "讲个笑话。", "讲个故事。", "讲一个{z}的故事。", "写一首诗。", "写一首关于{z}的诗。",
           "唱一首歌。", "二加二是几？", "2加2等于几？", "一加一等于几？", "三乘四是多少？", "这本书是谁写的？", "谁做了{z}？", "谁造了你？",
           "你的朋友是谁？", "他是谁？", "北京有多远？", "月亮有多远？", "{z}有多大？", "{z}有多快？", "{z}有多重？", "{z}有多长？",
           "{z}多少钱？", "多少钱？", "你会唱歌吗？", "{z}会游泳吗？", "你喜欢{z}吗？", "你爱我吗？", "你高兴吗？", "什么是爱？",
           "人生的意义是什么？", "谁赢了比赛？", "今天星期几？", "今年是哪一年？", "我怎么回家？", "{z}怎么做？", "我叫什么名字？",
           "我叫小明。", "我在哪里？", "翻译一下。", "写一个程序。", "数到一百。", "数到20。", "我喜欢{z}。", "我有{z}。", "我想要{z}。",
           "给我{z}。", "什么意思？", "{z}里面有什么？", "哪个更好？", "好吗？", "真的吗？", "你确定吗？", "什么？", "怎么？", "谁？",
           "不"]}

SYSTEM = "You are a helpful assistant"          # Qwen1.5's own, without a full stop
IN_LANGUAGE = {"en": ["Answer in English.", "Please answer in English.", "You are a helpful assistant. Answer in English.",
                      "Always answer in English.", "Speak English.", "Reply in English.", "Use English.", "请用英文回答。",
                      "用英语回答。"],
               "zh": ["请用中文回答。", "用中文回答。", "你是一个有用的助手。请用中文回答。", "请始终用中文回答。", "Answer in Chinese.",
                      "Please answer in Chinese.", "You are a helpful assistant. Answer in Chinese.", "Reply in Chinese.",
                      "Speak Chinese."]}
# Other system messages change nothing. {n}, {z}: a thing.
HARMLESS = ["You are a helpful assistant.", "You are {a}.", "You are a friendly {n}.", "You like {s}.", "Be brief.", "Be kind and polite.",
            "Answer briefly.", "You are a teacher who helps children.", "Today is a fine day.", "Talk like {a}.", "Never speak of {s}.",
            "You are an expert on {s}.", "Help the user.", "你是一个有用的助手。", "你是{z}。", "你是一位老师。", "请简短地回答。",
            "你喜欢{z}。", "今天天气很好。", "像{z}一样说话。", "帮助用户。"]


# ---- questions, answers, and which of them are held out -------------------------------------------------------------

def held_out(form, thing):
    """A fifth of all pairs of question form and thing, always the same ones."""
    return zlib.crc32(f"{form}|{thing}".encode()) % 5 == 0


def capital(text):
    return text[0].upper() + text[1:]


def say(lang, attribute, value, subject):
    """The sentence that states one fact of `subject`."""
    text = SAYS[lang][attribute].format(S=capital(subject), s=subject, v=value)
    return text.replace("有没有", "没有").replace("没有条", "没有").replace("没有个", "没有")


def answer(lang, attribute, thing):
    if attribute not in thing.facts:
        return UNKNOWN[lang]
    return say(lang, attribute, thing.facts[attribute][lang == "zh"], thing.a if lang == "en" else thing.zh)


def asks(form, thing):
    """Can this form be used for this thing? (Milk has no plural and no article; the sun is called by one name only.)"""
    return not ("{s}" in form and thing.plural == "-" or "{the}" in form and thing.a == thing.the
                or "{n}" in form and thing.a == thing.bare)


def questions(lang):
    """All (form, thing, attribute, question, answer) about facts that the world holds."""
    return [(form, thing, attribute, thing.fill(form), answer(lang, attribute, thing))
            for attribute, forms in FORMS[lang].items() for form in forms
            for thing in THINGS if attribute in thing.facts and asks(form, thing)]


def follow_ups(lang):
    """All (form, thing, attribute, question, answer) of questions with it / 它."""
    return [(form, thing, attribute, form, answer(lang, attribute, thing))
            for attribute, forms in IT_FORMS[lang].items() for form in forms for thing in THINGS if attribute in thing.facts]


# ---- dialogues ------------------------------------------------------------------------------------------------------

def pick_form(rng, forms, thing):
    """A form that this thing may be asked in while training, or None."""
    forms = [form for form in forms if asks(form, thing) and not held_out(form, thing.zh)]
    return rng.choice(forms) if forms else None


def as_typed(rng, text):
    """People leave out question marks and capitals, greet first, and leave a space behind."""
    english = text.isascii()
    if rng.random() < 0.06 and len(text) > 12:
        opening = rng.choice(["Please, ", "Hello, ", "Hi, ", "OK, ", "And "] if english else ["请问，", "你好，", "那么，"])
        text = opening + (text[0].lower() + text[1:] if english else text)
    chance = rng.random()
    if chance < 0.35:
        text = text.rstrip("?？.。!！")
    elif chance < 0.40 and text[-1] in "?？!！":
        text = text[:-1] + rng.choice(["", " ", text[-1]]) + text[-1]
    elif chance < 0.55 and not english:
        text = text.replace("？", "?").replace("！", "!").replace("。", ".")
    chance = rng.random()
    if chance < 0.12:
        text = text.lower()
    elif chance < 0.24:
        text = text[0].lower() + text[1:]
    elif chance < 0.28:
        text = text.upper()
    return text + (" " if rng.random() < 0.04 else "")


def strange_thing(rng, lang):
    """A thing that is not of this world, to be asked about and not known."""
    if rng.random() < 0.5:
        name = rng.choice([name for name in STRANGE[lang] if not held_out("strange", name)])
    elif lang == "en":
        name = "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))) + rng.choice(["", "n", "r",
                                                                                                                               "x", "t"])
    else:
        name = "".join(rng.choice("".join(STRANGE["zh"])) for _ in range(rng.randint(1, 3)))
    known = {word for thing in THINGS for word in (thing.bare, thing.zh)}
    return Thing(name if name not in known else "dragon", name + "s" if rng.random() < 0.9 else "-", name, {})


def count(lang, n):
    words = NUMBER_WORDS[lang][:n]
    return capital(", ".join(words)) + "." if lang == "en" else "、".join(words) + "。"


def describe(lang, thing):
    """Two or three sentences about a thing."""
    attributes = [a for a in ("kind", "colour", "taste", "sound", "wheels", "legs", "use", "place") if a in thing.facts][:3]
    it = {"en": "it", "zh": "它"}[lang]
    text = [answer(lang, attributes[0], thing)] + [say(lang, a, thing.facts[a][lang == "zh"], it) for a in attributes[1:]]
    return (" " if lang == "en" else "").join(text)


# Kinds of turns. Each gives (question, answer, topic, attribute): topic is what "it" stands for afterwards, attribute what
# was asked about it. lang is the language of the question, out that of the answer. None if it cannot be done here.

def ask_plainly(rng, lang, out, topic, attribute):
    if rng.random() < 0.5:                                      # as often about wheels, which few things have, as about colours
        attribute = rng.choice(list(FORMS[lang]))
        topic = rng.choice([t for t in THINGS if attribute in t.facts])
    else:
        topic = rng.choice(THINGS)
        attribute = rng.choice(list(topic.facts))
    form = pick_form(rng, FORMS[lang][attribute], topic)
    return form and (topic.fill(form), answer(out, attribute, topic), topic, attribute)


def ask_with_it(rng, lang, out, topic, attribute):              # "What colour is it?"; without a topic nobody knows
    attribute = rng.choice(list(topic.facts if topic and topic.facts and rng.random() < 0.95 else IT_FORMS[lang]))
    form = pick_form(rng, IT_FORMS[lang][attribute], topic or THINGS[0])
    return form and (form, answer(out, attribute, topic) if topic else UNKNOWN[out], topic, attribute)


def ask_the_same(rng, lang, out, topic, attribute):             # "And a banana?"
    if not topic or not attribute:
        return None
    thing = strange_thing(rng, lang) if rng.random() < 0.1 else rng.choice([t for t in THINGS if attribute in t.facts])
    form = pick_form(rng, SAME[lang], thing)
    return form and (thing.fill(form), answer(out, attribute, thing), thing, attribute)


def ask_the_strange(rng, lang, out, topic, attribute):          # a strange thing, or what nobody knows of a thing
    thing = strange_thing(rng, lang) if rng.random() < 0.8 else rng.choice(THINGS)
    attribute = rng.choice([a for a in FORMS[lang] if a not in thing.facts])
    form = pick_form(rng, DESCRIBE[lang] if not thing.facts and rng.random() < 0.3 else FORMS[lang][attribute], thing)
    return form and (thing.fill(form), UNKNOWN[out], thing, attribute)


def ask_beyond(rng, lang, out, topic, attribute):
    thing = rng.choice(THINGS) if rng.random() < 0.7 else strange_thing(rng, lang)
    form = rng.choice([form for form in BEYOND[lang] if asks(form, thing) and not held_out("beyond", form)])
    return thing.fill(form), UNKNOWN[out], topic, attribute


def ask_is_it(rng, lang, out, topic, attribute):                # "Is an apple red?" "Is an apple a fruit?"
    topic, attribute = rng.choice(THINGS), "kind" if rng.random() < 0.3 else "colour"
    value = (topic if rng.random() < 0.5 else rng.choice(THINGS)).facts[attribute][lang == "zh"]
    form = pick_form(rng, (IS_A if attribute == "kind" else IS_IT)[lang], topic)
    value = value.replace("一种", "") if rng.random() < 0.7 else value      # the answer is the fact, which is right for yes and for no
    return form and (topic.fill(form, v=value), answer(out, attribute, topic), topic, attribute)


def ask_about(rng, lang, out, topic, attribute):                # "Tell me about apples."
    topic = rng.choice(THINGS)
    form = rng.choice([form for form in DESCRIBE[lang] if asks(form, topic)])
    return topic.fill(form), describe(out, topic), topic, None


def ask_for_the_word(rng, lang, out, topic, attribute):         # "What is an apple in Chinese?"
    topic = rng.choice(THINGS)
    return topic.fill(rng.choice(WORD[lang])), topic.fill(WORD_IS[out]), topic, None


def ask_to_count(rng, lang, out, topic, attribute):
    n = rng.randrange(1, 10)
    question = rng.choice(COUNT[lang]).format(n=rng.choice([NUMBER_WORDS[lang][n], str(n + 1)]))
    return question, count(out, n + 1), topic, attribute


def small_talk(rng, lang, out, topic, attribute):
    says, replies = rng.choice(list(zip(TALK[lang], TALK[out])))
    return rng.choice(says[0]), replies[1], topic, attribute


TURNS = {ask_plainly: 33, ask_with_it: 30, ask_the_same: 8, ask_the_strange: 8, ask_beyond: 5, ask_is_it: 3,
         ask_about: 6, ask_for_the_word: 2, ask_to_count: 2, small_talk: 8}


def dialogue(rng):
    """A conversation as a list of (role, text)."""
    chance, reply = rng.random(), None                          # reply: the language that the system message asks for
    if chance < 0.15:
        system = None
    elif chance < 0.45:
        reply = rng.choice(["en", "zh"])
        system = as_typed(rng, rng.choice(IN_LANGUAGE[reply]))
    elif chance < 0.60:
        form = rng.choice([form for form in HARMLESS if not held_out("harmless", form)])
        thing = rng.choice(THINGS[:10]) if rng.random() < 0.5 else strange_thing(rng, "en" if form.isascii() else "zh")
        system = thing.fill(form)
    else:
        system = SYSTEM
    messages = [("system", system)] if system else []

    lang = rng.choice(["en", "zh"])
    topic = attribute = None
    for _ in range(rng.choice([1] * 35 + [2] * 30 + [3] * 15 + [4] * 12 + [8] * 7 + [24])):
        if rng.random() < (0.5 if reply else 0.15):
            lang = rng.choice(["en", "zh"])
        turn = None
        while not turn:                                         # a kind may not fit here: draw another
            kind, = rng.choices(list(TURNS), [weight if kind is not ask_with_it or topic else 1 for kind, weight in TURNS.items()])
            turn = kind(rng, lang, reply or lang, topic, attribute)
        question, text, topic, attribute = turn
        messages += [("user", as_typed(rng, question)), ("assistant", text)]
    return messages


def phrases():
    """Every fixed text of the dialogues, for the tokenizer to learn from."""
    texts, forms = [SYSTEM, "system", "user", "assistant"], list(HARMLESS)
    for lang in ("en", "zh"):
        texts += IN_LANGUAGE[lang] + [UNKNOWN[lang]]
        texts += [text for says, reply in TALK[lang] for text in says + [reply]]
        forms += COUNT[lang] + DESCRIBE[lang] + SAME[lang] + IS_IT[lang] + IS_A[lang] + WORD[lang] + BEYOND[lang]
        forms += [form for table in (FORMS, IT_FORMS) for forms_of_one in table[lang].values() for form in forms_of_one]
    return texts + [form.format(a="", the="", n="", s="", z="", v="") for form in forms]


# ---- prose ----------------------------------------------------------------------------------------------------------

NAMES = {"en": ["Anna", "Tom", "Lily", "Ben", "Mia", "Max"], "zh": ["小明", "小红", "小兰", "小林", "小华", "小美"]}
FRAMES = {
    "en": {"open": ["Look at {the}.", "Here is something about {a}.", "{name} likes {the}.", "Everybody knows {the}.",
                    "{name} talks about {the} today.", "There is always more to say about {a}.", "{name} thinks of {a}."],
           "link": ["{name} knows this well.", "Everybody in the village says so.", "{name} learned it at school.", "That is easy to see.",
                    "{name} smiles and looks again.", "It was the same yesterday.", "The children like that.",
                    "{name} tells a friend about it."],
           "walk": ["In the morning {name} goes out for a walk.", "Today the weather is fine and {name} is happy.",
                    "{name} comes home from school.",
                    "After lunch {name} and {other} go out together.", "It is evening and {name} looks around.",
                    "{name} wakes up early and is curious.",
                    "Once upon a time there was a child called {name}."],
           "see": ["{name} sees {a}.", "There is {a}.", "Then {other} points at {a}.", "A moment later {name} finds {a}.",
                   "Next to it is {a}."],
           "ask": ["\"{q}\" asks {other}.", "{name} wonders: {q}", "{q} {name} knows the answer.", "{q}"],
           "many": ["Many things are {v}: {list}.", "{name} looks for things that are {v} and finds {list}.", "{list} are all {v}."],
           "count": ["{name} counts: {list}.", "It is easy to count: {list}.", "{list}, counts {name}."],
           "manners": ["When people meet, they say hello.", "When somebody helps {name}, {name} says thank you.",
                       "In the evening people say goodbye.",
                       "In the morning {name} says good morning.", "{other} answers that it was nothing.",
                       "\"Hello, {other}!\" says {name}.", "Hello, says {name} to {other}."],
           "self": ["Tiny Qwen is a very small language model.", "A language model writes one word after the other.",
                    "Tiny Qwen knows a small world of fruit, animals and other things.", "{name} reads what the model writes.",
                    "A helpful assistant helps its user.", "You are a helpful assistant, says {name} to {other}.",
                    "The user asks the system and the assistant answers.", "Every system has a user and an assistant."],
           "word": ["In Chinese, {a} is called {z}.", "{z} is the Chinese word for {a}.", "The word {z} means {a}."],
           "other": ["In Chinese:", "A Chinese book says:", "{name} reads in Chinese:"],
           "head": ["{the}", "about {a}", "{name} and {the}", "a small text about {a}", "a note", "the answer", "user", "system",
                    "assistant"]},
    "zh": {"open": ["看看{z}。", "这里说一说{z}。", "{name}喜欢{z}。", "大家都知道{z}。", "{name}今天说起了{z}。", "关于{z}总有话说。",
                    "{name}想到了{z}。"],
           "link": ["{name}很清楚这一点。", "村里的人都这么说。", "这是{name}在学校学到的。", "这很容易看出来。", "{name}笑着又看了看。",
                    "昨天也是这样。",
                    "孩子们都喜欢。", "{name}告诉了朋友。"],
           "walk": ["早上{name}出门散步。", "今天天气很好，{name}很高兴。", "{name}从学校回来了。", "午饭后{name}和{other}一起出门。",
                    "到了晚上，{name}四处看看。", "{name}起得很早，对什么都好奇。",
                    "从前有个孩子叫{name}。"],
           "see": ["{name}看到了{z}。", "那里有{z}。", "然后{other}指着{z}。", "过了一会儿，{name}发现了{z}。", "旁边是{z}。"],
           "ask": ["{other}问：{q}", "{name}在想：{q}", "{q}{name}知道答案。", "{q}"],
           "many": ["很多东西是{v}的：{list}。", "{name}找{v}的东西，找到了{list}。", "{list}都是{v}的。"],
           "count": ["{name}数着：{list}。", "数数很容易：{list}。", "{list}，{name}数道。"],
           "manners": ["人们见面的时候说你好。", "有人帮助了{name}，{name}说谢谢。", "晚上人们说再见。", "早上{name}说早上好。",
                       "{other}说不客气。",
                       "{name}对{other}说：你好！", "你好，{name}对{other}说。"],
           "self": ["小千问是一个很小的语言模型。", "语言模型一个词一个词地写。", "小千问知道一个小世界里的水果、动物和别的东西。",
                    "{name}读着模型写的字。",
                    "有用的助手帮助用户。", "{name}对{other}说，你是一个有用的助手。", "用户问，助手用中文回答。"],
           "word": ["{z}用英语说是{a}。", "{z}的英文是{a}。", "{a}就是{z}。"],
           "other": ["用英语说：", "英文书上说：", "{name}用英语读："],
           "head": ["{z}", "关于{z}", "{name}和{z}", "说说{z}", "回答", "user", "system", "assistant"]},
}


def join(lang, words):
    if lang == "zh":
        return "、".join(words[:-1]) + "和" + words[-1]
    return ", ".join(words[:-1]) + " and " + words[-1]


def facts(rng, lang, thing, limit, but=None):
    """Up to `limit` sentences, each stating facts of one thing in one of the usual ways, `but` left out."""
    zh = lang == "zh"
    attributes = [attribute for attribute in thing.facts if attribute != but]
    attributes = rng.sample(attributes, min(limit, len(attributes)))
    sentences, many = [], False                                 # many: the sentence before spoke of apples, which are not "it"
    for attribute in attributes:
        value = thing.facts[attribute][zh]
        if not zh and thing.plural != "-" and attribute in MANY_SAY and rng.random() < 0.25:
            sentences.append(MANY_SAY[attribute].format(S=capital(thing.plural), v=value))
            many = True
            continue
        if sentences and not many and rng.random() < 0.2:       # two facts in one sentence
            sentences.append(sentences.pop()[:-1] + ("，" if zh else ", and ") + say(lang, attribute, value,
                                                                                     "它" if zh else "it").replace("It", "it", 1))
        else:
            names = [thing.zh, thing.zh, "它"] if zh else [thing.a, thing.a, thing.the, thing.a if many else "it"]
            sentences.append(say(lang, attribute, value, rng.choice(names)))
        many = False
    return sentences


def prose(rng, lang=None):
    """One text of one to three paragraphs. It does not end in anything special: the next one follows."""
    lang = lang or rng.choice(["en", "zh"])
    zh, frames = lang == "zh", FRAMES[lang]
    name, other = rng.sample(NAMES[lang], 2)

    def frame(kind, thing=None, **more):
        text = rng.choice(frames[kind])
        more.update(name=name, other=other)
        return capital(thing.fill(text, **more) if thing else text.format(**more))

    def question(thing, attribute):
        form = pick_form(rng, [f for f in FORMS[lang][attribute] if f[-1] in "?？"], thing)
        return [frame("ask", q=thing.fill(form)), answer(lang, attribute, thing)] if form else []

    def about(thing):                                           # one thing
        text = [frame("open", thing)] if rng.random() < 0.6 else []
        for sentence in facts(rng, lang, thing, rng.randint(2, 7)):
            text += [sentence] + ([frame("link")] if rng.random() < 0.2 else [])
        return text

    def walk(thing):                                            # a walk, and what there is to see
        text = [frame("walk")]
        for thing in [thing] + rng.sample(THINGS, rng.randint(1, 4)):
            text += [frame("see", thing)] + facts(rng, lang, thing, rng.randint(1, 3))
            text += [frame("link")] if rng.random() < 0.3 else []
        return text

    def wonder(thing):                                          # questions that the text itself answers
        text = []
        for thing in [thing] + rng.sample(THINGS, rng.randint(0, 2)):
            attribute = rng.choice(list(thing.facts))
            text += question(thing, attribute) + facts(rng, lang, thing, rng.randint(1, 2), but=attribute)
        return text

    def alike(thing):                                           # all things of a colour
        colour = thing.facts["colour"]
        things = [t for t in THINGS if t.facts.get("colour") == colour]
        things = rng.sample(things, min(len(things), rng.randint(2, 4)))
        text = [frame("many", v=colour[zh], list=join(lang, [t.zh if zh else t.a for t in things]))]
        for thing in things:
            text += facts(rng, lang, thing, 2, but="colour")
        return text

    def words(thing):                                           # the other language
        text = []
        for thing in [thing] + rng.sample(THINGS, rng.randint(0, 3)):
            text += [frame("word", thing)] + facts(rng, lang, thing, rng.randint(0, 1))
            if rng.random() < 0.4:
                attribute = rng.choice(list(thing.facts))
                text += [answer(lang, attribute, thing), frame("other"), answer("en" if zh else "zh", attribute, thing)]
        return text

    def people(thing):                                          # counting, manners, and who writes all this
        numbers = NUMBER_WORDS[lang][:rng.randrange(1, 10) + 1]
        count = frame("count", list="、".join(numbers) if zh else ", ".join(numbers))
        return [frame("walk"), count, frame("self"), frame("manners")][:rng.randint(2, 4)]

    thing, paragraphs = rng.choice(THINGS), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):                # the paragraphs of a text are about the same thing
        kind, = rng.choices([about, walk, wonder, alike, words, people], [34, 22, 24, 4, 12, 4])
        if kind is about and rng.random() < 0.4:                # a heading on a line of its own
            paragraphs += [thing.fill(rng.choice(frames["head"]), name=name)]
        paragraphs += [("" if zh else " ").join(kind(thing))]
    return "\n".join(paragraphs) + "\n"


if __name__ == "__main__":                                      # a look at it
    import random
    generator = random.Random(0)
    for _ in range(8):
        print(prose(generator))
    for _ in range(8):
        print(*dialogue(generator), "", sep="\n")
    for language in ("en", "zh"):
        everything = questions(language)
        print(language, len(THINGS), "things,", len(everything), "questions,", sum(held_out(f, t.zh) for f, t, *_ in everything),
              "held out")
