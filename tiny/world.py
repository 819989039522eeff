"""The small world of the tiny pair, in English and Chinese: its things, and how to ask for a fact.

    THINGS, FORMS           the facts, and every way to ask for one
    questions()             all pairs of question and right answer, with the form and the thing
    held_out(form, thing)   is this pair kept out of training? (a fifth of them)

talk.py makes conversations of it for the chat model, prose.py running text for the base model.
Standard library only, and no state: the same random generator gives the same text.
"""
import zlib

# Values: the English and the Chinese for each word that the tables below use.
COLOURS = {"red": "红色", "green": "绿色", "yellow": "黄色", "orange": "橙色", "purple": "紫色",
           "brown": "棕色", "white": "白色", "black": "黑色", "grey": "灰色", "pink": "粉色",
           "blue": "蓝色", "black and white": "黑白色"}
TASTES = {"sweet": "甜", "sour": "酸", "salty": "咸", "bitter": "苦", "hot": "辣", "mild": "淡"}
NUMBERS = {"no": "没有", "two": "两", "three": "三", "four": "四", "six": "六", "eight": "八"}
SOUNDS = {"meow": "喵喵", "woof": "汪汪", "moo": "哞哞", "oink": "哼哼", "baa": "咩咩",
          "neigh": "咴咴", "quack": "嘎嘎", "cluck": "咯咯", "ribbit": "呱呱", "tweet": "啾啾",
          "buzz": "嗡嗡", "roar": "吼吼", "squeak": "吱吱", "hiss": "嘶嘶", "hoot": "咕咕",
          "howl": "嗷嗷", "vroom": "轰轰", "beep": "嘀嘀", "choo-choo": "呜呜", "ring": "铃铃",
          "whoosh": "呼呼", "wee-woo": "呜哇", "tick-tock": "滴答", "ding-dong": "叮当",
          "boom": "咚咚", "splash": "哗哗"}
PLACES = {"garden": ("in the garden", "花园里"), "field": ("in the field", "田里"),
          "market": ("at the market", "市场上"), "kitchen": ("in the kitchen", "厨房里"),
          "house": ("in the house", "家里"), "farm": ("on the farm", "农场里"),
          "pond": ("at the pond", "池塘里"), "forest": ("in the forest", "森林里"),
          "grassland": ("on the grassland", "草原上"), "sea": ("in the sea", "海里"),
          "street": ("on the street", "街上"), "station": ("at the station", "车站里"),
          "river": ("on the river", "河上"), "sky": ("in the sky", "天上"),
          "bedroom": ("in the bedroom", "卧室里"), "bathroom": ("in the bathroom", "浴室里"),
          "school": ("at school", "学校里"), "hall": ("in the hall", "门厅里")}
USES = {"eating": "吃", "drinking": "喝", "driving": "开", "riding": "骑", "travelling": "旅行",
        "flying": "飞", "sailing": "航行", "putting out fires": "灭火", "sitting": "坐",
        "sleeping": "睡觉", "working": "工作", "giving light": "照明", "telling the time": "看时间",
        "eating soup": "喝汤", "cutting": "切东西", "cooking": "做饭", "sweeping": "扫地",
        "keeping dry": "挡雨", "opening doors": "开门", "reading": "阅读", "writing": "写字",
        "playing": "玩", "making music": "演奏音乐", "calling": "打电话", "washing": "洗手",
        "seeing yourself": "照自己", "walking": "走路", "carrying things": "装东西"}

# A block for each kind: its name, what the columns hold, then the things. "-" stands for a fact
# that this world does not know and for the plural of a word that has none; "the_" before a thing
# that there is one of; "_" for a space in a name.
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
kiwi kiwis 猕猴桃 green sour market eating

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
pizza pizzas 比萨 - salty kitchen eating
ice_cream - 冰淇淋 white sweet market eating

a drink=一种饮料 colour taste place use
milk - 牛奶 white mild kitchen drinking
coffee - 咖啡 black bitter kitchen drinking
tea - 茶 green bitter house drinking
juice - 果汁 orange sweet kitchen drinking

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
panda pandas 熊猫 black_and_white - four forest
zebra zebras 斑马 black_and_white - four grassland
giraffe giraffes 长颈鹿 yellow - four grassland
penguin penguins 企鹅 black_and_white - two sea
shark sharks 鲨鱼 grey - no sea
crocodile crocodiles 鳄鱼 green - four river
dinosaur dinosaurs 恐龙 green roar four -

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
hat hats 帽子 black hall keeping dry
computer computers 电脑 grey school working

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
fire - 火 red kitchen
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
            self.a = self.bare                                  # milk
        else:
            self.a = ("an " if name[0] in "aeiou" else "a ") + self.bare
        if name in ("sheep", "fish"):
            self.a, self.plural = "a " + name, name

    def fill(self, template, **more):
        return template.format(a=self.a, the=self.the, n=self.bare, s=self.plural, z=self.zh,
                               **more)


def read_tables():
    values = {"colour": lambda v: (v, COLOURS[v]), "taste": lambda v: (v, TASTES[v]),
              "sound": lambda v: (v, SOUNDS[v]), "legs": lambda v: (v, NUMBERS[v]),
              "wheels": lambda v: (v, NUMBERS[v]), "place": PLACES.get,
              "use": lambda v: (v, USES[v])}
    things = []
    for block in TABLES.strip().split("\n\n"):
        head, *rows = block.split("\n")
        kind, columns = head.split("=")[0], head.split("=")[1].split()
        kind = (kind, columns.pop(0))
        for row in rows:
            name, plural, zh, *cells = row.split(" ", 2 + len(columns))
            facts = {column: values[column](cell.replace("_", " "))
                     for column, cell in zip(columns, cells) if cell != "-"}
            things.append(Thing(name, plural, zh, {"kind": kind, **facts}))
    return things


THINGS = read_tables()

# The answer to each attribute, also what the prose says. {S} and {s}: the subject, with and
# without a capital; {v}: the value.
SAYS = {
    "en": {"kind": "{S} is {v}.", "colour": "{S} is {v}.", "taste": "{S} tastes {v}.",
           "sound": "{S} goes {v}.", "legs": "{S} has {v} legs.", "wheels": "{S} has {v} wheels.",
           "place": "{S} is {v}.", "use": "{S} is for {v}."},
    "zh": {"kind": "{s}是{v}。", "colour": "{s}是{v}的。", "taste": "{s}是{v}的。",
           "sound": "{s}的声音是{v}。", "legs": "{s}有{v}条腿。", "wheels": "{s}有{v}个轮子。",
           "place": "{s}在{v}。", "use": "{s}是用来{v}的。"},
}
MANY_SAY = {"colour": "{S} are {v}.", "taste": "{S} taste {v}.", "sound": "{S} go {v}.",
            "legs": "{S} have {v} legs.", "wheels": "{S} have {v} wheels.", "place": "{S} are {v}.",
            "use": "{S} are for {v}."}

# Every way to ask. {a}: "an apple", {the}: "the apple", {n}: "apple", {s}: "apples", {z}: 苹果.
FORMS = {
    "en": {
        "kind": ["What is {a}?", "What are {s}?", "What kind of thing is {a}?",
                 "Do you know what {a} is?", "Can you tell me what {a} is?",
                 "What sort of thing is {a}?", "What's {a}?"],
        "colour": ["What colour is {a}?", "What color is {a}?", "What colour is {the}?",
                   "What color is {the}?", "What colour are {s}?", "What color are {s}?",
                   "What is the colour of {a}?", "What is the color of {a}?",
                   "Which colour does {a} have?", "Do you know what colour {a} is?",
                   "Tell me the colour of {a}.", "Can you tell me what color {a} is?",
                   "What is the colour of {the}?", "What is the color of {s}?",
                   "What's the colour of {a}?", "What colour is {n}?", "What color is {n}?",
                   "What colour do {s} have?", "The colour of {a}?"],
        "taste": ["What does {a} taste like?", "How does {a} taste?", "What do {s} taste like?",
                  "What is the taste of {a}?", "Do you know how {a} tastes?",
                  "Tell me the taste of {a}.", "What taste does {a} have?"],
        "sound": ["What sound does {a} make?", "What does {a} sound like?",
                  "What sound do {s} make?", "What is the sound of {a}?",
                  "Which sound does {a} make?", "Do you know what sound {a} makes?",
                  "What noise does {a} make?", "What does {a} say?", "What does {the} say?"],
        "legs": ["How many legs does {a} have?", "How many legs do {s} have?",
                 "How many legs are there on {a}?", "Do you know how many legs {a} has?",
                 "Tell me how many legs {a} has.", "How many legs has {a}?"],
        "wheels": ["How many wheels does {a} have?", "How many wheels do {s} have?",
                   "How many wheels are there on {a}?", "Do you know how many wheels {a} has?",
                   "Tell me how many wheels {a} has.", "How many wheels has {a}?"],
        "place": ["Where is {a}?", "Where is {the}?", "Where can I find {a}?",
                  "Where can I see {a}?", "Where are {s}?", "Do you know where {a} is?",
                  "Where do you find {a}?"],
        "use": ["What is {a} for?", "What are {s} for?", "What is the use of {a}?",
                "What do you use {a} for?", "Do you know what {a} is for?",
                "What can I do with {a}?"],
    },
    "zh": {
        "kind": ["{z}是什么？", "什么是{z}？", "请问{z}是什么？", "你知道{z}是什么吗？",
                 "{z}是一种什么东西？", "{z}是什么东西？"],
        "colour": ["{z}是什么颜色？", "{z}是什么颜色的？", "{z}的颜色是什么？", "{z}什么颜色？",
                   "请问{z}是什么颜色？", "你知道{z}是什么颜色吗？", "告诉我{z}的颜色。",
                   "{z}有什么颜色？", "{z}的颜色？", "{z}是啥颜色？", "{z}的颜色是什么样的？"],
        "taste": ["{z}是什么味道？", "{z}是什么味道的？", "{z}的味道是什么？", "{z}什么味道？",
                  "{z}的味道怎么样？", "{z}吃起来怎么样？", "你知道{z}是什么味道吗？"],
        "sound": ["{z}的声音是什么？", "{z}发出什么声音？", "{z}是什么声音？",
                  "{z}的声音是什么样的？", "你知道{z}的声音吗？", "{z}怎么叫？", "{z}怎么叫的？",
                  "{z}会发出什么声音？"],
        "legs": ["{z}有几条腿？", "{z}有多少条腿？", "{z}几条腿？", "请问{z}有几条腿？",
                 "你知道{z}有几条腿吗？", "告诉我{z}有几条腿。"],
        "wheels": ["{z}有几个轮子？", "{z}有多少个轮子？", "{z}几个轮子？", "请问{z}有几个轮子？",
                   "你知道{z}有几个轮子吗？", "告诉我{z}有几个轮子。"],
        "place": ["{z}在哪里？", "{z}在哪儿？", "哪里有{z}？", "在哪里能看到{z}？",
                  "请问{z}在哪里？", "你知道{z}在哪里吗？", "哪里能找到{z}？"],
        "use": ["{z}有什么用？", "{z}是用来做什么的？", "{z}是干什么用的？", "{z}能做什么？",
                "请问{z}有什么用？", "你知道{z}有什么用吗？"],
    },
}
IT_FORMS = {
    "en": {
        "kind": ["What is it?", "And what is it?", "What kind of thing is it?"],
        "colour": ["What colour is it?", "What color is it?", "And what colour is it?",
                   "What is its colour?", "And its color?", "Its colour?", "Colour?"],
        "taste": ["What does it taste like?", "How does it taste?",
                  "And what does it taste like?", "And its taste?"],
        "sound": ["What sound does it make?", "And what sound does it make?",
                  "What is its sound?", "And its sound?", "What does it say?"],
        "legs": ["How many legs does it have?", "And how many legs does it have?",
                 "And its legs?"],
        "wheels": ["How many wheels does it have?", "And how many wheels does it have?",
                   "And its wheels?"],
        "place": ["Where is it?", "And where is it?", "Where can I find it?",
                  "Where can I see it?", "Where?"],
        "use": ["What is it for?", "And what is it for?", "What can I do with it?",
                "What is its use?"],
    },
    "zh": {
        "kind": ["它是什么？", "那它是什么？", "它是什么东西？"],
        "colour": ["它是什么颜色？", "它是什么颜色的？", "它的颜色是什么？", "那它是什么颜色？",
                   "它什么颜色？", "它的颜色呢？", "颜色呢？"],
        "taste": ["它是什么味道？", "它的味道是什么？", "那它是什么味道？", "它吃起来怎么样？"],
        "sound": ["它的声音是什么？", "它发出什么声音？", "那它的声音呢？", "它怎么叫？"],
        "legs": ["它有几条腿？", "它有多少条腿？", "那它有几条腿？"],
        "wheels": ["它有几个轮子？", "它有多少个轮子？", "那它有几个轮子？"],
        "place": ["它在哪里？", "它在哪儿？", "那它在哪里？", "哪里有它？", "在哪里？"],
        "use": ["它有什么用？", "它是用来做什么的？", "那它有什么用？"],
    },
}
# Questions that want a yes or a no. {v}: a value; {w}: a colour in Chinese without its last
# character, as in 红; {k}: a kind in Chinese without 一种. In a question with "it", {a} and {z}
# become "it" and 它.
YES_NO = {
    "en": {"kind": ["Is {a} {v}?", "Is {the} {v}?", "Is {n} {v}?"],
           "colour": ["Is {a} {v}?", "Is {the} {v}?", "Are {s} {v}?", "Is {n} {v}?",
                      "Is the colour of {a} {v}?", "Is {a} really {v}?"],
           "taste": ["Is {a} {v}?", "Does {a} taste {v}?", "Are {s} {v}?", "Is {the} {v}?",
                     "Do {s} taste {v}?"],
           "sound": ["Does {a} go {v}?", "Does {a} say {v}?", "Do {s} go {v}?"],
           "legs": ["Does {a} have {v} legs?", "Do {s} have {v} legs?", "Has {a} {v} legs?"],
           "wheels": ["Does {a} have {v} wheels?", "Do {s} have {v} wheels?"],
           "place": ["Is {a} {v}?", "Are {s} {v}?", "Can I find {a} {v}?"],
           "use": ["Is {a} for {v}?", "Are {s} for {v}?", "Do you use {a} for {v}?"]},
    "zh": {"kind": ["{z}是{v}吗？", "{z}是不是{v}？", "{z}是{k}吗？", "{z}是不是{k}？",
                    "{z}算{k}吗？", "{z}属于{k}吗？"],
           "colour": ["{z}是{v}的吗？", "{z}是不是{v}的？", "{z}是{v}吗？", "{z}是{w}的吗？",
                      "{z}{w}吗？", "{z}是不是{w}的？"],
           "taste": ["{z}是{v}的吗？", "{z}{v}吗？", "{z}{v}不{v}？", "{z}是不是{v}的？",
                     "{z}是{v}的？"],
           "sound": ["{z}的声音是{v}吗？", "{z}是不是{v}叫？"],
           "legs": ["{z}有{v}条腿吗？", "{z}是不是有{v}条腿？"],
           "wheels": ["{z}有{v}个轮子吗？", "{z}是不是有{v}个轮子？"],
           "place": ["{z}在{v}吗？", "{z}是不是在{v}？"],
           "use": ["{z}是用来{v}的吗？", "{z}是不是用来{v}的？"]},
}
CAN_I = {       # ... and values asked for in other words; "any": any but "no"
    "en": {("use", "eating"): ["Can I eat {a}?", "Can you eat {a}?", "Can I eat {s}?",
                               "Do people eat {s}?", "May I eat {the}?"],
           ("use", "drinking"): ["Can I drink {a}?", "Can you drink {a}?", "Do people drink {a}?"],
           ("use", "riding"): ["Can I ride {a}?", "Can you ride {a}?"],
           ("use", "reading"): ["Can I read {a}?"],
           ("legs", "any"): ["Does {a} have legs?", "Do {s} have legs?", "Has {a} legs?"],
           ("wheels", "any"): ["Does {a} have wheels?", "Do {s} have wheels?"]},
    "zh": {("use", "eating"): ["{z}能吃吗？", "可以吃{z}吗？", "我能吃{z}吗？", "{z}可以吃吗？",
                               "{z}能不能吃？"],
           ("use", "drinking"): ["{z}能喝吗？", "可以喝{z}吗？", "我能喝{z}吗？"],
           ("use", "riding"): ["{z}能骑吗？"], ("use", "reading"): ["{z}能读吗？"],
           ("legs", "any"): ["{z}有腿吗？", "{z}有没有腿？"],
           ("wheels", "any"): ["{z}有轮子吗？", "{z}有没有轮子？"]},
}
VERDICT = {"en": (", so yes.", ", so no."), "zh": ("，所以对。", "，所以不对。")}     # after a fact

STRANGE = {      # nothing of this is in the world: to learn what not knowing looks like
    "en": """dragon king queen doctor teacher robot river mountain island city country hospital
        university government planet galaxy atom electron magnet engine battery laser satellite
        telescope diamond gold silver iron copper marble kangaroo camel dolphin octopus crab eagle
        parrot pigeon swan lizard unicorn ghost wizard pirate castle tower bridge tunnel airport
        helicopter rocket submarine motorcycle scooter violin guitar trumpet flute piano harp
        window wall roof garage chimney carpet curtain towel candle bottle blanket jacket trousers
        sweater scarf glove ring necklace watch camera television radio newspaper magazine letter
        papaya avocado broccoli spinach cabbage garlic ginger mushroom noodle sandwich burger
        sausage soup butter cinnamon vanilla pepper vinegar wine beer lemonade yogurt biscuit
        candy jelly walnut almond peanut volcano desert glacier lake beach cave valley jungle
        swamp storm rainbow lightning thunder tornado lawyer farmer soldier painter singer dancer
        emperor president mayor judge friend brother sister uncle""".split(),
    "zh": """龙 国王 医生 老师 机器人 山 岛 城市 国家 医院 大学 政府 行星 银河 原子 电子 磁铁 电池
        激光 卫星 望远镜 钻石 金子 银子 铁 铜 袋鼠 骆驼 海豚 章鱼 螃蟹 老鹰 鹦鹉 鸽子 天鹅 蜥蜴
        独角兽 鬼 巫师 海盗 城堡 塔 桥 隧道 机场 直升机 火箭 潜艇 摩托车 小提琴 吉他 笛子 钢琴
        窗户 墙 屋顶 车库 烟囱 地毯 窗帘 毛巾 蜡烛 瓶子 毯子 夹克 裤子 毛衣 围巾 手套 戒指 项链
        手表 相机 电视 收音机 报纸 杂志 信 木瓜 白菜 菠菜 大蒜 生姜 蘑菇 面条 三明治 汉堡 香肠
        黄油 醋 酒 啤酒 酸奶 饼干 糖果 核桃 花生 火山 沙漠 冰川 湖 沙滩 山洞 山谷 沼泽 暴风雨 彩虹
        闪电 雷 律师 农民 士兵 画家 歌手 皇帝 总统 市长 法官 朋友 哥哥 姐姐 叔叔""".split(),
}
UNKNOWN = {"en": "Sorry, I do not know.", "zh": "对不起，我不知道。"}
NUMBER_WORDS = {"en": "one two three four five six seven eight nine ten".split(),
                "zh": list("一二三四五六七八九十")}

# Simplified characters and their traditional ones; whole words first, where one has two.
TRADITIONAL_WORDS = {"面包": "麵包", "萝卜": "蘿蔔", "台灯": "檯燈", "干什么": "幹什麼",
                     "面条": "麵條"}
TRADITIONAL = str.maketrans(
    "苹颜么声发轮条几个请问诉关于红绿黄蓝咸没两饮种动东乐来骑会说谁为数从给讲样听见里儿吗谢对语欢"
    "爱时间开门写读学这过还们词标记结础训练国气话诗岁长樱萝洋葱盐鸡猫猪马鸭鸟狮鱼鲸鹰鹅蚂蚁乌龟车"
    "机飞书灯盘锅伞钥铅钢笔镜钟铃铛电阳树叶云柠檬饭汤杂脑龙狲应该总统让后进边头买卖钱谷义认识经难"
    "处张图画报纸视员师医爷妈亲网络丽热凉阴转传",
    "蘋顏麼聲發輪條幾個請問訴關於紅綠黃藍鹹沒兩飲種動東樂來騎會說誰為數從給講樣聽見裡兒嗎謝對語歡"
    "愛時間開門寫讀學這過還們詞標記結礎訓練國氣話詩歲長櫻蘿洋蔥鹽雞貓豬馬鴨鳥獅魚鯨鷹鵝螞蟻烏龜車"
    "機飛書燈盤鍋傘鑰鉛鋼筆鏡鐘鈴鐺電陽樹葉雲檸檬飯湯雜腦龍猻應該總統讓後進邊頭買賣錢穀義認識經難"
    "處張圖畫報紙視員師醫爺媽親網絡麗熱涼陰轉傳")


# ---- questions, answers, and which of them are held out -----------------------------------------

def held_out(form, thing):
    """A fifth of all pairs of question form and thing, always the same ones."""
    return zlib.crc32(f"{form}|{thing}".encode()) % 5 == 0


def capital(text):
    return text[0].upper() + text[1:]


def traditional(text):
    """Chinese in traditional characters."""
    for word, other in TRADITIONAL_WORDS.items():
        text = text.replace(word, other)
    return text.translate(TRADITIONAL)


def say(lang, attribute, value, subject):
    """The sentence that states one fact of `subject`."""
    text = SAYS[lang][attribute].format(S=capital(subject), s=subject, v=value)
    return text.replace("有没有", "没有").replace("没有条", "没有").replace("没有个", "没有")


def answer(lang, attribute, thing):
    """The right answer to a question about a fact."""
    if attribute not in thing.facts:
        return UNKNOWN[lang]
    return say(lang, attribute, thing.facts[attribute][lang == "zh"],
               thing.a if lang == "en" else thing.zh)


def yes_or_no(lang, attribute, thing, value):
    """The right answer to a question whether a fact is `value` (in English): the fact, then yes or
    no. That way round a model this small can learn it: it compares what it just wrote."""
    if attribute not in thing.facts:
        return UNKNOWN[lang]
    fact = thing.facts[attribute][0]
    no = fact == "no" if value == "any" else fact != value
    return answer(lang, attribute, thing)[:-1] + VERDICT[lang][no]


def asks(form, thing):
    """Can this form be used for this thing? (Milk has no plural, and there is one sun.)"""
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
            for attribute, forms in IT_FORMS[lang].items() for form in forms
            for thing in THINGS if attribute in thing.facts]


def yes_no_questions(lang, rng, it=False):
    """All (form, thing, attribute, question, answer) that want a yes or a no, half and half."""
    asked = []
    for attribute, forms in YES_NO[lang].items():
        for form in forms:
            if it and ("{the}" in form or "{s}" in form or "{n}" in form):
                continue
            for thing in THINGS:
                known = attribute in thing.facts and asks(form, thing)
                value = a_value(rng, thing, attribute) if known else None
                if value:
                    question = fill_yes_no(lang, form, thing, value, it)
                    right = yes_or_no(lang, attribute, thing, value[0])
                    asked.append((form, thing, attribute, question, right))
    return asked


def a_value(rng, thing, attribute):
    """The thing's own value or another's, as (English, Chinese); None if nobody would ask that."""
    own = thing.facts[attribute]
    value = own
    if rng.random() < 0.5:
        value = rng.choice([t for t in THINGS if attribute in t.facts]).facts[attribute]
    # "Has it no legs?" has no plain answer, and whether fruit is food is a matter of words.
    odd = value[0] == "no" or value != own and {"a food", "a tool"} & {value[0], own[0]}
    return None if odd else value


def fill_yes_no(lang, form, thing, value, it=False):
    more = dict(v=value[lang == "zh"], w=value[1].replace("色", ""),
                k=value[1].replace("一种", ""))
    if it:
        return capital(form.format(a="it", z="它", **more))
    return thing.fill(form, **more)


def count(lang, n):
    words = NUMBER_WORDS[lang][:n]
    return capital(", ".join(words)) + "." if lang == "en" else "、".join(words) + "。"


def join(lang, words):
    """A, B and C."""
    if len(words) < 2:
        return words[0]
    if lang == "zh":
        return "、".join(words[:-1]) + "和" + words[-1]
    return ", ".join(words[:-1]) + " and " + words[-1]


def examples(lang, attribute, value):
    """The first three things of which a fact is true (value in English), as a sentence."""
    things = [t for t in THINGS if t.facts.get(attribute, [None])[0] == value][:3]
    names = join(lang, [t.zh if lang == "zh" else t.a for t in things])
    return capital(names) + ("。" if lang == "zh" else ".")


def describe(lang, thing):
    """Two or three sentences about a thing."""
    order = ("kind", "colour", "taste", "sound", "wheels", "legs", "use", "place")
    attributes = [a for a in order if a in thing.facts][:3]
    it = {"en": "it", "zh": "它"}[lang]
    text = [answer(lang, attributes[0], thing)]
    text += [say(lang, a, thing.facts[a][lang == "zh"], it) for a in attributes[1:]]
    return (" " if lang == "en" else "").join(text)
