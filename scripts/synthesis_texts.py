"""Random text in many languages for synthesised speech: what ``synthesize_speech.py`` reads aloud.

Sentences written for this purpose, random words of Debian's word lists, names of countries,
languages, months and days from the CLDR (through Babel), numbers, and made-up words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from babel import Locale
from numpy.random import Generator

WORD_LISTS = {
    "en": "american-english", "fr": "french", "de": "ngerman", "es": "spanish", "it": "italian",
    "pt": "portuguese", "pl": "polish", "nl": "dutch", "da": "danish", "sv": "swedish",
    "nb": "bokmaal", "bg": "bulgarian", "uk": "ukrainian", "ca": "catalan",
}  # fmt: skip
SENTENCES = {
    "en": (
        "My mother baked plum pie for Bob, Pam and me.",
        "Five brave farmers fought off the flood before the village woke up.",
        "She was sure the sugar should stay on the top shelf.",
        "Nobody believed the mayor when he promised a better bridge.",
        "Think about the things that both brothers thought were worthless.",
        "You would choose a quiet room with a view of the huge garden.",
        "Leave the lamp by the window, please, and bring the blue cup back.",
        "How much more money will the whole trip cost us this time?",
        "We moved the old piano up the stairs, one step at a time.",
        "Jim judged the cheese while Charlotte watched from the porch.",
        "A big grey dog ran along the beach and jumped over every wave.",
        "Every evening he opens a map and plans his next journey.",
        "Could you tell me which platform the last train leaves from?",
        "The doctor gave her very few reasons to worry about her heart.",
        "Rain is likely in the north, but the south will remain warm and dry.",
        "Oh no, I have lost my phone again, has anybody seen it?",
    ),
    "fr": (
        "Ma petite voisine promène son chien blanc au bord de la rivière.",
        "Nous avons vu beaucoup de bateaux bleus dans le vieux port.",
        "Peux-tu m'apporter un peu de pain et du fromage frais ?",
        "Hier soir, la pluie tombait sur les toits de la ville endormie.",
        "Je voudrais savoir pourquoi il fume encore malgré sa promesse.",
    ),
    "de": (
        "Am Montag bringt mein Bruder ein paar Bücher und Bilder mit.",
        "Vielleicht können wir morgen früh zusammen über die Brücke gehen.",
        "Der müde Bäcker backt schon um fünf Uhr Brot für das ganze Dorf.",
        "Wo finde ich bitte den schönsten Weg zum alten Schloss?",
        "Papa pfeift fröhlich, während Mama die Blumen im Garten pflegt.",
    ),
    "es": (
        "Mi abuela prepara una sopa muy buena cuando llueve en el pueblo.",
        "Por favor, baja un poco la música, que el bebé duerme.",
        "Mañana iremos juntos a la playa para ver salir el sol.",
        "El viejo pescador vendió su barco y compró un huerto de manzanas.",
        "Nunca habíamos visto una ciudad con tantas bibliotecas.",
    ),
    "it": (
        "Mia nonna beve sempre un bicchiere di vino prima di mangiare.",
        "Il bambino gioca con la palla blu sotto il grande albero.",
        "Vorrei sapere quanto costa un biglietto per il treno di domani.",
        "Abbiamo passato una bella serata a parlare di musica e di libri.",
        "Che bel panorama, sembra proprio un quadro pieno di colori!",
    ),
    "pt": (
        "O menino pequeno bebeu um copo de leite antes de dormir.",
        "Amanhã vamos comprar peixe fresco no mercado perto da ponte.",
        "Por favor, feche a janela porque faz muito frio lá fora.",
        "Ninguém sabia onde o velho professor guardava as chaves.",
    ),
    "nl": (
        "Mijn buurvrouw bakt elke vrijdag een appeltaart voor de hele buurt.",
        "Waar heb je gisteren die mooie blauwe fiets gekocht?",
        "Wij wonen boven een kleine winkel vlak bij de brug.",
    ),
    "pl": (
        "Moja babcia piecze pyszny chleb i zaprasza wszystkich sąsiadów.",
        "Czy możesz powiedzieć, gdzie jest najbliższy przystanek?",
        "W piątek pojedziemy pociągiem nad morze, bo będzie ciepło.",
    ),
    "sv": (
        "Min bror bor i ett blått hus bredvid den gamla bron.",
        "På lördag ska vi plocka blåbär och baka en paj.",
        "Kan du hjälpa mamma att bära in veden före middagen?",
    ),
    "ru": (
        "Моя бабушка варит вкусный борщ и печёт пироги по субботам.",
        "Вы не подскажете, где находится ближайшая библиотека?",
        "Брат купил билет на поезд, но забыл взять паспорт.",
        "Вечером мы пьём чай и вспоминаем прошлое лето.",
    ),
    "fi": (
        "Pieni poika juoksi puun luo ja poimi maasta punaisen omenan.",
        "Voimmeko mennä huomenna veneellä saareen, jos ei tuule?",
        "Mummo paistaa pullaa ja pappa keittää vahvaa kahvia.",
    ),
    "cs": (
        "Babička peče švestkový koláč a pes leží pod stolem.",
        "Můžete mi prosím říct, kdy odjíždí poslední vlak?",
        "Na podzim sbíráme houby a vaříme z nich polévku.",
    ),
    "tr": (
        "Babam her sabah bahçede kuşlara ekmek verir.",
        "Bu akşam bizimle birlikte yemek yemek ister misiniz?",
    ),
    "cmn": (
        "wo3 ma1 ma5 mei3 tian1 zao3 shang4 mai3 mian4 bao1 he2 niu2 nai3.",
        "ni3 men5 ming2 tian1 bu4 pa4 xia4 yu3 ma5?",
        "ba4 ba5 fei1 chang2 xi3 huan5 he1 pi2 jiu3, ye3 ai4 pao3 bu4.",
        "qing3 wen4, di4 tie3 zhan4 li2 zhe4 li3 yuan3 bu4 yuan3?",
    ),
    "ja": (
        "ははは まいあさ パンと ミルクを かいます。",
        "ぼくの ともだちは うみで ふねを みました。",
        "すみません、びょういんは どこに ありますか。",
    ),
    "ko": (
        "우리 아빠는 비 오는 날 빵을 많이 먹습니다.",
        "내일 아침에 바다를 보러 같이 갈까요?",
    ),
    "hi": (
        "मेरी माँ हर सुबह बाज़ार से फल और फूल लाती है।",
        "क्या आप बता सकते हैं कि पुस्तकालय कहाँ है?",
    ),
}  # fmt: skip
FUNCTION_WORDS = {
    "en": "the a and of to you we they for with my but from about have was be will would people",
    "fr": "le la les un une et de du dans pour avec nous vous mais plus qui",
    "de": "der die das und ein eine mit für von wir ihr aber nicht auf über",
    "es": "el la los una y de para con pero muy que nos por mi",
    "it": "il la i una e di per con ma molto che noi mi più",
}
MANDARIN_SYLLABLES = (
    "ba pa ma fa da ta na la ga ka ha zha cha sha za ca sa bai pai mai dai tai lai gai kai hai "
    "bao pao mao dao tao lao gao kao hao bei pei mei fei lei gei hei bo po mo fo bu pu mu fu du "
    "tu nu lu gu ku hu zhu chu shu ban pan man fan dan tan nan lan gan kan han bang pang mang "
    "fang dang tang ben pen men fen gen ken hen beng peng meng feng deng teng bi pi mi di ti ni "
    "li ji qi xi bian pian mian dian tian lian jian qian xian biao piao miao diao bin pin min lin "
    "jin qin xin bing ping ming ding ting ling jing qing xing jiu qiu xiu liu niu dui tui gui kui "
    "hui shui duo tuo luo guo huo zuo cuo suo dong tong long gong kong zhong chong yu ju qu xu "
    "yuan juan quan xuan yun jun wo wa wei wan wen wang yao you yan yang ying yong er ren rou ru"
)
CONSONANTS = ("p", "b", "m", "f", "v", "t", "d", "n", "s", "z", "k", "g", "l", "r", "p", "b", "m")


def one_of(choices: Sequence[str], generator: Generator) -> str:
    return choices[int(generator.integers(len(choices)))]


class TextSource:
    """Random text in one language: sentences, dictionary words, names, numbers, made-up words."""

    def __init__(self, language: str, *, letters: str = "", numbers: bool = True) -> None:
        """``letters`` restricts the text, as in a regular expression's brackets; empty: any."""
        self._language = language
        self._numbers = numbers
        self._allowed = re.compile(f"[{letters} ,.?!'-]+") if letters else None
        self._word_list = Path("/usr/share/dict") / WORD_LISTS.get(language, "-")
        self._names = [name for name in cldr_names(language) if self._readable(name)]
        self._sentences = [line for line in SENTENCES.get(language, ()) if self._readable(line)]

    def text(self, generator: Generator) -> str:
        kind = generator.random()
        if self._sentences and kind < 0.3:
            return one_of(self._sentences, generator)
        count = int(generator.integers(3, 9))
        if self._language == "cmn":
            tones = "12345"
            words = [
                one_of(MANDARIN_SYLLABLES.split(), generator) + one_of(tones, generator)
                for _ in range(count + 3)
            ]
        elif self._word_list.exists() and kind < 0.8:
            words = [self._dictionary_word(generator) for _ in range(count)]
        elif not self._word_list.exists() and self._language in ("fi", "cs", "id") and kind < 0.55:
            words = [made_up_word(generator) for _ in range(count)]
        else:
            words = [one_of(self._names, generator) for _ in range(max(2, count // 2))]
        if self._numbers and generator.random() < 0.25:
            words.insert(int(generator.integers(len(words))), str(generator.integers(3000)))
        if generator.random() < 0.5:
            words[len(words) // 2] += ","
        return " ".join(words) + one_of(".?!", generator)

    def _dictionary_word(self, generator: Generator) -> str:
        common = FUNCTION_WORDS.get(self._language, "").split()
        if common and generator.random() < 0.4:
            return one_of(common, generator)
        with self._word_list.open("rb") as lines:
            while True:
                lines.seek(int(generator.integers(self._word_list.stat().st_size)))
                lines.readline()
                word = lines.readline().decode("utf-8", "ignore").strip().partition("/")[0]
                if word.isalpha() and 2 <= len(word) <= 14 and self._readable(word):
                    return word

    def _readable(self, text: str) -> bool:
        return self._allowed is None or self._allowed.fullmatch(text.lower()) is not None


@cache
def cldr_names(language: str) -> tuple[str, ...]:
    """Names of countries, languages, months and days in that language, in a fixed order."""
    locale = Locale.parse({"cmn": "zh"}.get(language, language))
    months, days = locale.months["format"]["wide"], locale.days["format"]["wide"]
    names = [*locale.territories.values(), *locale.languages.values()]
    names += [*months.values(), *days.values()] * 3
    plain = sorted(re.sub(r"[()\[\]\u2013]", " ", name) for name in names if len(name) < 40)
    if language == "ja":
        plain = [name for name in plain if re.fullmatch("[\u3040-\u30ff・]+", name)]
    return tuple(name for name in plain if not re.search("[A-Z]{3}", name))


def made_up_word(generator: Generator) -> str:
    """Open syllables, with more lip consonants than languages have."""
    syllables = [
        one_of(CONSONANTS, generator) + one_of("aeiou", generator) + one_of("   nsl", generator)
        for _ in range(int(generator.integers(1, 5)))
    ]
    return "".join(syllables).replace(" ", "")
