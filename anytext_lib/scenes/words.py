"""What scenes say: Latin words and phrases, numbers, Chinese words, and captions that quote them.

``draw_text`` takes any of them.  ``draw_word`` is for the mini model: its words are split by hash, so that held-out
words never occur in training, and some of those for training are invented.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict

import numpy as np

LATIN_WORDS = """
again airport almond amber anchor apple April arcade August autumn avenue bakery balance banana basket beach bicycle
blanket blossom boulder breakfast breeze bridge bright brown bubble bucket butter button cabin cactus camera camping
canal candle canyon caramel carpet castle celebrate ceramic champion change chapter cherry chestnut chocolate cinema
circus classic climate closed clothes cloud coconut coffee colour comet concert copper coral cottage cotton country
courage crystal culture curtain dance danger December delight desert design detour diamond dinner discount dolphin
dragon dream drink driver eagle early earth echo eleven emerald energy engine entrance evening exhibit explore express
fabric factory family farmer fashion feather ferry festival fiction finger finish flavour flower forest fortune
fountain freedom fresh friend frozen future galaxy gallery garden garlic gather gentle giant ginger glass golden grape
gravity green grocery guitar hammer handmade happy harbour harvest heritage highway history holiday honest honey
horizon hotel hunter imagine indigo island jacket January jasmine journey jungle justice kettle kitchen kitten ladder
lantern laundry lavender leather lemon letter library liberty light lobster London lovely lucky lunch machine magic
mango maple marble market meadow medium melody memory message midnight mineral mirror modern Monday monkey morning
mountain mountains museum mustard mystery nature neighbour number nutmeg oasis ocean October olive open orange orchard
organic origami outdoor oxygen painter palace panda paper paradise parade Paris parking passion pasta pattern peach
peanut pencil pepper perfume picnic pioneer planet pocket poetry police popcorn postcard potato powder present promise
pumpkin purple puzzle quality quarter quiet rabbit radio railway rainbow raven recipe record rescue reserve respect
ribbon river robot rocket romance runner sailor salad salmon sandwich Saturday savings scarlet school science season
secret September shadow shelter silence silver simple singer sketch smart smooth snowflake soccer spring square
stadium station stone storm strawberry street stripe student studio sugar summer Sunday sunrise sunset supper sweet
symbol table teacher temple tennis textile theatre thunder ticket tiger timber tomato tower tractor traffic travel
treasure triangle tropical trumpet tulip tunnel turtle umbrella unique universe valley vanilla velvet victory village
vintage violet voyage walnut warehouse warning water weather weekend welcome whale wheat whisper window winter wisdom
wonder workshop writer yellow yoga young
""".split()

LATIN_PHRASES = """
Grand Opening|Fresh Bread|Green Tea|Book Shop|Main Street|Night Market|Open Today|Summer Sale|Thank You|Good Morning
Stay Calm|Live Music|Free Entry|Blue Ocean|North Gate|Happy Hour|City Park|Ice Cream|Hot Soup|Sea View|Old Town
Next Exit|Keep Right|Two Wheels|Wild Honey|Red Planet|Art Studio|Best Price|Take Away|Slow Down
""".replace("\n", "|").strip("|").split("|")

CHINESE_WORDS = """
中国 北京 上海 广州 南京 西安 成都 天津 香港 重庆 书店 花园 茶馆 饭店 超市 医院 学校 银行 车站 机场 公园 广场 电影 音乐
艺术 文化 历史 科学 教育 图书馆 博物馆 火车 地铁 出口 入口 停车场 小心 安全 欢迎光临 营业中 新年快乐 春节 中秋 生日快乐
早餐 午餐 面条 米饭 豆腐 水果 苹果 西瓜 牛奶 咖啡 绿茶 红茶 美食 海鲜 火锅 烧烤 点心 包子 饺子 春天 夏天 秋天 冬天 阳光
月亮 星空 大海 高山 河流 森林 草原 花朵 蓝天 白云 风景 城市 乡村 家园 故乡 朋友 家人 老师 学生 孩子 幸福 健康 平安 快乐
自由 梦想 未来 希望 努力 成功 时间 今天 明天 世界 和平 友好 服务 优惠 打折 特价 新品 上市 手机 电脑 网络 数码 照片 相机
服装 鞋帽 家具 建材 五金 药房 酒店 宾馆 理发 美容 健身 游泳 足球 篮球 比赛 冠军 旅行 地图 东门 南门 西门 北门 电梯 楼梯
请勿吸烟 请排队 注意安全 保持安静 节约用水 小卖部 工作室 会议室 办公室 实验室 洗手间 服务台 售票处 长城 长江 黄河 泰山
""".split()

# frequent characters beyond the words above, so that a notebook can write other short texts with the sample fonts
COMMON_CHINESE = """
的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看
起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什
两次使身者被高已亲其进此话常与活正感见明问力理尔点文几定本公特做外孩相西果走将月十实向声车全信重三机工物气每并别真打太新比才
便夫再书部水像眼等体却加电主界门利海受听表德少克代员许先口由死安写性马光白或住难望教命花结乐色更拉东神记处让母父应直字场平报
友关放至张认接告入笑内英军候民岁往何度山觉路带万男边风解叫任金快原吃妈变通师立象数四失满战远格士音轻目条呢病始达深完今提求清
王化空业思切怎非找片罗钱语元喜曾离飞科言干流欢约各即指合反题必该论交终林请医晚制球决传画保读运及则房早院量苦火布品近坐产答星
精视五连司巴奇管类未朋且婚台夜青北队久乎越观落尽形影红爸百令周吧识步希亚术留市半热送兴造谈容极随演收首根讲整式取照办强石古华
拿计您装似足双妻尼转诉米称丽客南领节衣站黑刻统断福城故历惊脸选包紧争另建维绝树系伤示愿持千史谁准联妇纪基买志静阿诗独复痛消社
算义竟确酒需单治卡幸兰念举仅钟怕共毛句息功官待究跟穿室易游程号居考突皮哪费倒价图具刚脑永歌响商礼细专黄块脚味灵改据般破引食仍
存众注笔甚某沉血备习校默务土微娘须试怀料调广苏显赛查密议底列富梦错座参八除跑亮假印设线温虽掉京初养香停际致阳纸李纳验助激够严
证帝饭忘趣支春集丈木研班普导顿睡展跳获艺六波察群皇段急庭创区奥器谢弟店否害草排背止组州朝封睛板角况曲馆育忙质河续哥呼若推境遇
雨标姐充围案伦护冷警贝著雪索剧啊船险烟依斗值帮汉慢佛肯闻唱沙局伯族低玩资屋击速顾泪洲团圣旁堂兵七露园牛哭旅街劳型烈姑陈莫鱼异
抱宝权鲁简态级票怪寻杀律胜份汽右洋范床舞秘午登楼贵吸责例追较职属渐左录丝牙党继托赶章智冲叶胡吉卖坚喝肉遗救修松临藏担戏善卫药
悲敢靠伊村戴词森耳差短祖云规窗散迷油旧适乡架恩投弹铁博雷府压超负勒杂醒洗采毫嘴毕九冰既状乱景席珍童顶派素脱农疑练野按犯拍征坏
骨余承置彩灯巨琴免环姆暗换技翻束增忍餐洛塞缺忆判欧层付阵玛批岛项狗休懂武革良恶恋委拥娜妙探呀营退摇弄桌熟诺宣银势奖宫忽套康供
优课鸟喊降夏困刘罪亡鞋健模败伴守挥鲜财孤枪禁恐伙杰迹妹遍盖副坦牌江顺秋萨菜划授归浪凡预奶雄升编典袋莱含盛济蒙棋端腿招释介烧误
""".replace("\n", "")

_PLACES = {
    "flat": "A plain poster", "gradient": "A printed card with soft colours", "radial": "A glowing backdrop",
    "clouds": "A cloudy painted wall", "stripes": "A striped shop awning", "dots": "A dotted wrapping paper",
    "bokeh": "A city street at night, out of focus,", "shapes": "A colourful abstract print",
    "bricks": "A brick wall", "wood": "A wooden board", "paper": "A sheet of old paper", "tiles": "A tiled wall",
}
_VERBS = ("with the words", "that says", "showing the text", "with a sign that reads", "with lettering that spells")
SPLITS = {"train": range(4, 20), "validation": range(3, 4), "test": range(0, 3)}  # twentieths of the hash
LETTERS = (3, 7)  # fewest and most letters of a word
SPELLINGS = (0.35, 0.4, 0.25)  # shares of lower, Title and UPPER


def draw_text(rng: np.random.Generator, language: str, max_chars: int = 20) -> str:
    """One text of ``language`` ('Latin' or 'Chinese') of at most ``max_chars`` characters.

    Latin gives words in three spellings (lower, Title, UPPER), short phrases and numbers.

    Raises:
        ValueError: no vocabulary for the language, or none that short.
    """
    if language == "Chinese":
        pool = [w for w in CHINESE_WORDS if len(w) <= max_chars]
    elif language == "Latin":
        kind = rng.random()
        if kind < 0.15 and max_chars >= 5:
            return _number(rng)
        pool = LATIN_PHRASES if kind < 0.25 else LATIN_WORDS
        pool = [w for w in pool if len(w) <= max_chars] or [w for w in LATIN_WORDS if len(w) <= max_chars]
    else:
        raise ValueError(f"there are words for the languages 'Latin' and 'Chinese', not for {language!r}")
    if not pool:
        raise ValueError(f"no {language} word has at most {max_chars} characters: allow more characters")
    word = pool[rng.integers(len(pool))]
    if language == "Latin":
        word = _spelled(rng, word)
    return word


def _spelled(rng: np.random.Generator, word: str) -> str:
    """``word`` in lower case (or as it is), with a capital, or in capitals."""
    return (word, word[0].upper() + word[1:], word.upper())[rng.choice(3, p=SPELLINGS)]


def _number(rng: np.random.Generator) -> str:
    """A year, a price, a percentage, a time or a plain number, of 3 to 5 characters."""
    n = int(rng.integers(1, 10))
    return (str(1900 + int(rng.integers(140))), f"${n}.{rng.integers(10, 100)}", f"{n}{rng.integers(10)}%",
            f"{rng.integers(10, 24)}:{rng.integers(10, 60)}", str(rng.integers(100, 10000)))[rng.integers(5)]


def draw_caption(rng: np.random.Generator, background: str, texts: list[str]) -> str:
    """A short sentence that names the background and quotes the ``texts`` (as AnyWord's captions do)."""
    place = _PLACES.get(background, "A picture")
    if not texts:
        return f"{place} with writing that nobody can read."
    quoted = [f'"{text}"' for text in texts]
    listed = quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " and " + quoted[-1]
    return f"{place} {_VERBS[rng.integers(len(_VERBS))]} {listed}."


def split_of(word: str) -> str:
    """The split of a word, whatever its spelling: 'train', 'validation' (5%) or 'test' (15%)."""
    place = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8]) % 20
    return next(name for name, places in SPLITS.items() if place in places)


@functools.cache
def words_of(split: str) -> tuple[str, ...]:
    """The real words of a split, 3 to 7 letters each, in the order of ``LATIN_WORDS``.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
    return tuple(word for word in LATIN_WORDS if LETTERS[0] <= len(word) <= LETTERS[1] and split_of(word) == split)


def draw_word(rng: np.random.Generator, split: str, invented: float = 0.0) -> str:
    """A word of a split in one of three spellings (lower, Title, UPPER).

    Args:
        invented: probability of a made-up word instead: its letters follow one another as in the words for training,
            and it falls into the split by its hash.
    """
    words = words_of(split)
    word = _invent(rng, split) if rng.random() < invented else words[rng.integers(len(words))]
    return _spelled(rng, word)


@functools.cache
def chinese_words_of(split: str) -> tuple[str, ...]:
    """The Chinese words of two characters of a split, in the order of ``CHINESE_WORDS``; ValueError as ``words_of``."""
    words_of(split)
    return tuple(word for word in CHINESE_WORDS if len(word) == 2 and split_of(word) == split)


def draw_chinese(rng: np.random.Generator, split: str, invented: float = 0.0) -> str:
    """A Chinese word of two characters of a split.

    Args:
        invented: probability of two characters of any such words instead, for 'train' only, that fall into the split by
            their hash: so every character of a held-out word is met in training.
    """
    if rng.random() >= invented:
        words = chinese_words_of(split)
        return words[rng.integers(len(words))]
    characters = _chinese_characters()
    while True:
        word = "".join(characters[i] for i in rng.integers(len(characters), size=2))
        if split_of(word) == split:
            return word


@functools.cache
def _chinese_characters() -> str:
    return "".join(dict.fromkeys("".join(word for split in SPLITS for word in chinese_words_of(split))))


def _invent(rng: np.random.Generator, split: str) -> str:
    """A random walk over pairs of letters, until its length is right and its hash says ``split``."""
    follows = _pairs()
    while True:
        letters, length = "", int(rng.integers(LETTERS[0], LETTERS[1] + 1))
        while len(letters) < length:
            choices = follows.get(letters[-1:]) or follows[""]
            letters += choices[rng.integers(len(choices))]
        if split_of(letters) == split and letters not in _all_words():
            return letters


@functools.cache
def _pairs() -> dict[str, str]:
    """For each letter ('' for the start) the letters that follow it, one for each pair and one for each letter."""
    follows: dict[str, str] = defaultdict(str)
    for word in words_of("train"):
        for before, after in zip(" " + word.lower(), word.lower(), strict=False):
            follows[before.strip()] += after
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return {before: after + alphabet for before, after in follows.items()}


@functools.cache
def _all_words() -> frozenset[str]:
    return frozenset(word.lower() for word in LATIN_WORDS)
