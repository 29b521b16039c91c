"""Make the font subsets of this folder from the original fonts (see README.md for where these come from).

    python data_samples/fonts/subset_fonts.py SOURCES [NAME ...]

SOURCES is a folder with the unpacked npm packages of Fontsource in ``npm/`` and the unpacked Debian packages in
``deb/``.  Writes NAME.ttf or NAME.otf and LICENSE-NAME.txt of every font, or of those that are named (the others keep
their files), and fonts.json, beside this file.
"""

import io
import json
import re
import sys
from pathlib import Path

from fontTools.merge import Merger
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from anytext_lib.scenes.words import CHINESE_WORDS, COMMON_CHINESE

HERE = Path(__file__).parent
ASCII = "".join(map(chr, range(0x20, 0x7F)))
ACCENTS = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœ"
PUNCTUATION = "¡¢£©®°·¿×÷–—‘’“”•…€™"
CHINESE_PUNCTUATION = "、。《》「」！（），：；？￥"
CHINESE = "".join(sorted(set(COMMON_CHINESE + "".join(CHINESE_WORDS)))) + CHINESE_PUNCTUATION

# name: (family as distributed here, style, character, source below the sources folder, package)
NPM = "@fontsource/{0} 5.3.0 (npm)"
LATIN = {
    "OpenSans": ("Open Sans", "Regular", "sans serif", "open-sans", 400),
    "Montserrat": ("Montserrat", "Bold", "geometric sans serif, bold", "montserrat", 700),
    "Oswald": ("Oswald", "Medium", "condensed sans serif", "oswald", 500),
    "EBGaramond": ("EB Garamond", "Medium", "old-style serif", "eb-garamond", 500),
    "DMSerifDisplay": ("DM Serif Display", "Regular", "high-contrast serif for headlines", "dm-serif-display", 400),
    "RobotoSlab": ("Roboto Slab", "Bold", "slab serif, bold", "roboto-slab", 700),
    "JetBrainsMono": ("JetBrains Mono", "Regular", "monospaced", "jetbrains-mono", 400),
    "Fredoka": ("Fredoka", "SemiBold", "rounded display", "fredoka", 600),
    "Merienda": ("Merienda", "Bold", "brush script, bold", "merienda", 700),
    "Caveat": ("Caveat", "Bold", "handwriting, bold", "caveat", 700),
    "PatrickHand": ("Patrick Hand", "Regular", "handwriting, upright", "patrick-hand", 400),
    "ComicNeue": ("Comic Neue", "Bold", "comic lettering, bold", "comic-neue", 700),
}
WENKAI_HOLDERS = ('Copyright 2021-2023 LXGW (https://github.com/lxgw/LxgwWenKai), with Reserved Font Names "LXGW" and '
                  '"霞鹜". Copyright 2020 The Klee Project Authors (https://github.com/fontworks-fonts/Klee)')
NOTO, WENKAI = "fonts-noto-cjk 1:20220127+repack1-1 (Debian)", "fonts-lxgw-wenkai 1.250+repack-1 (Debian)"
CJK = {
    "NotoSansSC": ("Noto Sans CJK SC", "Regular", "Chinese sans serif (hei)",
                   "deb/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", NOTO),
    "NotoSerifSC": ("Noto Serif CJK SC", "Bold", "Chinese serif (song), bold",
                    "deb/usr/share/fonts/opentype/noto/NotoSerifCJK-Bold.ttc", NOTO),
    "CourseKai": ("Course Kai SC", "Regular", "Chinese regular script (kai); a renamed subset of LXGW WenKai, whose "
                  "licence reserves its name", "deb/usr/share/fonts/truetype/lxgw-wenkai/LXGWWenKai-Regular.ttf",
                  WENKAI),
    "ZCOOLKuaiLe": ("ZCOOL KuaiLe", "Regular", "Chinese rounded display",
                    "npm/zcool-kuaile/files/zcool-kuaile-chinese-simplified-400-normal.woff",
                    NPM.format("zcool-kuaile")),
}

# Japanese and Korean: without layout tables, as the fonts above; the kanji of primary school, and KS X 1001's syllables
KANA = "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A0, 0x3100)]))
JAPANESE_PUNCTUATION = "、。「」『』・ー々〆！？（）：；～￥"
HANGUL = "".join(bytes((high, low)).decode("euc_kr") for high in range(0xB0, 0xC9) for low in range(0xA1, 0xFF))
SANS_CJK = "deb/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
EAST_ASIAN = {
    "NotoSansJP": ("Noto Sans CJK JP", "Regular", "Japanese sans serif (gothic)", "Japanese"),
    "NotoSansKR": ("Noto Sans CJK KR", "Regular", "Korean sans serif (gothic)", "Korean"),
}

# scripts whose letters join, stack or take marks: with the layout tables that shape them, and ASCII from Noto Sans
JOINERS = "\u200c\u200d\u25cc"
CORE = "fonts-noto-core 20201225-1 (Debian)"
FOLDER = "deb/usr/share/fonts/truetype/noto"
SHAPED = {
    "NotoNaskhArabic": ("Noto Naskh Arabic", "Regular", "Arabic, also Persian and Urdu (naskh)", "Arabic",
                        [(0x0600, 0x06FF)]),
    "NotoSansDevanagari": ("Noto Sans Devanagari", "Regular", "Hindi sans serif (Devanagari)", "Hindi",
                           [(0x0900, 0x097F)]),
    "NotoSansBengali": ("Noto Sans Bengali", "Regular", "Bengali sans serif", "Bangla",
                        [(0x0964, 0x0965), (0x0980, 0x09FF)]),
    "NotoSansThai": ("Noto Sans Thai", "Regular", "Thai sans serif", "Thai", [(0x0E00, 0x0E7F)]),
}


def primary_school_kanji(sources: Path) -> str:
    """The 1,026 kanji that Japanese primary schools teach: grades G1 to G6 in the dictionary file kanjidic."""
    lines = (sources / "deb/usr/share/edict/kanjidic").read_text(encoding="euc_jp").splitlines()[1:]
    return "".join(line[0] for line in lines if re.search(r" G[1-6] ", line))


def open_font(path: Path, family: str) -> TTFont:
    """Open a font file, or the face called ``family`` of a collection."""
    if path.suffix != ".ttc":
        return TTFont(path)
    for number in range(64):
        font = TTFont(path, fontNumber=number)
        if font["name"].getDebugName(1).startswith(family):
            return font
    raise SystemExit(f"{path} has no face {family}")


def keep(font: TTFont, text: str, shaped: bool = False) -> None:
    """Keep the glyphs of ``text``; of layout tables those that shape it, or none."""
    options = Options(hinting=False, notdef_outline=True, glyph_names=False, legacy_kern=False)
    options.drop_tables += ["BASE", "VORG", "vhea", "vmtx", "DSIG", "STAT", "meta"]
    if not shaped:
        options.layout_features = []
        options.drop_tables += ["GSUB", "GPOS", "GDEF"]
    options.name_IDs = [0, 13, 14]  # copyright, licence, licence address
    options.name_languages = [0x409]
    subsetter = Subsetter(options)
    subsetter.populate(text=text)
    subsetter.subset(font)


def with_latin(font: TTFont, latin: TTFont, text: str) -> TTFont:
    """A font that is kept as it is, with the characters of ``text`` that it lacks from another one."""
    keep(latin, "".join(c for c in text if ord(c) not in font.getBestCmap()))
    files = []
    for part in (font, latin):
        files.append(io.BytesIO())
        part.save(files[-1])
    return Merger().merge(files)


def subset(font: TTFont, text: str, name: str, family: str, style: str) -> str:
    """Keep the glyphs of ``text`` and a plain name table; write the file and return the characters kept."""
    keep(font, text)
    return write(font, text, name, family, style)


def write(font: TTFont, text: str, name: str, family: str, style: str) -> str:
    """Write the file under its own name; returns the characters of ``text`` that it has."""
    for identifier, value in ((1, family), (2, "Regular"), (3, f"{name} course subset"), (4, f"{family} {style}"),
                              (6, f"{name}-{style}")):
        font["name"].setName(value, identifier, 3, 1, 0x409)
    if "CFF " in font:
        cff = font["CFF "].cff
        cff.fontNames = [f"{name}-{style}"]
        top = cff.topDictIndex[0]
        top.FamilyName, top.FullName = family, f"{family} {style}"
    font["head"].modified = font["head"].created
    font.flavor, font.recalcTimestamp = None, False
    file = f"{name}.{'otf' if 'CFF ' in font else 'ttf'}"
    font.save(HERE / file)
    return "".join(sorted(c for c in set(text) if ord(c) in font.getBestCmap()))


def entry(name, family, style, kind, package, licence, languages, font, characters, holder):
    """One record of fonts.json."""
    return {"name": name, "file": f"{name}.{'otf' if 'CFF ' in font else 'ttf'}", "family": family, "style": style,
            "character": kind, "licence": licence, "licence_file": f"LICENSE-{name}.txt", "source": package,
            "copyright": holder, "languages": languages,
            "coverage": f"{len(characters)} characters", "characters": characters}


def write_licence(name: str, copyright_line: str, text: str) -> str:
    """Store the licence text with the copyright line; return its SPDX name."""
    apache = "Apache License" in text
    if not apache:  # packages differ in the lines above the licence: the font's own copyright line goes there
        body = text[text.index("SIL OPEN FONT LICENSE Version 1.1"):]
        body = "\n".join(line.rstrip() for line in re.sub(r"(?m)^-+\s*$", "", body).splitlines()).strip()
        text = (f"{copyright_line}\n\nThis Font Software is licensed under the SIL Open Font License, Version 1.1.\n"
                f"This license is copied below, and is also available with a FAQ at: https://openfontlicense.org\n\n"
                f"{body}\n")
    (HERE / f"LICENSE-{name}.txt").write_text(text.rstrip() + "\n", encoding="utf-8")
    return "Apache-2.0" if apache else "OFL-1.1"


def main(sources: Path, only: list[str]) -> None:
    """Subset every font of the tables, or those named ``only``."""
    ofl = (sources / "npm/open-sans/LICENSE").read_text(encoding="utf-8")
    old = {row["name"]: row for row in json.loads((HERE / "fonts.json").read_text(encoding="utf-8"))} if only else {}
    records = []

    def wanted(name: str) -> bool:
        if only and name not in only:
            records.append(old[name])
        return not only or name in only

    for name, (family, style, kind, package, weight) in LATIN.items():
        if not wanted(name):
            continue
        font = TTFont(sources / f"npm/{package}/files/{package}-latin-{weight}-normal.woff")
        holder = font["name"].getDebugName(0)
        characters = subset(font, ASCII + ACCENTS + PUNCTUATION, name, family, style)
        licence = write_licence(name, holder, (sources / f"npm/{package}/LICENSE").read_text(encoding="utf-8"))
        records.append(entry(name, family, style, kind, NPM.format(package), licence, ["Latin"], font, characters,
                             holder))
    for name, (family, style, kind, path, package) in CJK.items():
        if not wanted(name):
            continue
        font = open_font(sources / path, family)
        holder = WENKAI_HOLDERS if name == "CourseKai" else font["name"].getDebugName(0)
        characters = subset(font, ASCII + PUNCTUATION + CHINESE, name, family, style)
        licence = write_licence(name, holder, ofl)
        records.append(entry(name, family, style, kind, package, licence, ["Chinese"], font, characters,
                             holder))
    for name, (family, style, kind, language) in EAST_ASIAN.items():
        if not wanted(name):
            continue
        own = HANGUL if language == "Korean" else KANA + JAPANESE_PUNCTUATION + primary_school_kanji(sources)
        font = open_font(sources / SANS_CJK, family)
        holder = font["name"].getDebugName(0)
        characters = subset(font, ASCII + PUNCTUATION + own, name, family, style)
        records.append(entry(name, family, style, kind, NOTO, write_licence(name, holder, ofl), [language], font,
                             characters, holder))
    for name, (family, style, kind, language, blocks) in SHAPED.items():
        if not wanted(name):
            continue
        font = TTFont(sources / f"{FOLDER}/{name}-Regular.ttf")
        holder = font["name"].getDebugName(0)
        own = JOINERS + "".join(chr(code) for low, high in blocks for code in range(low, high + 1))
        keep(font, ASCII + own, shaped=True)
        font = with_latin(font, TTFont(sources / f"{FOLDER}/NotoSans-Regular.ttf"), ASCII)
        characters = write(font, ASCII + own, name, family, style)
        records.append(entry(name, family, style, kind, CORE, write_licence(name, holder, ofl), [language], font,
                             characters, holder))
    (HERE / "fonts.json").write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for record in records:
        print(record["name"], record["licence"], (HERE / record["file"]).stat().st_size, record["coverage"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
