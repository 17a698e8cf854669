#!/usr/bin/env python3
"""Writes data/unicode_classes.json: which code points the components of HF
`tokenizers` count as punctuation, digits and so on, as ranges.

The crates behind them carry data of different Unicode versions (8 to 17). With
--tables it prints, for runtime/tokenizer/unicode_versions.cc, where they differ
from the utf8proc of this machine.
"""

import ctypes
import json
import pathlib
import string
import sys

from tokenizers import normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = ("Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc "
              "Sk So Zs Zl Zp Cc Cf Cs Co").split()


def ranges(code_points):
    out = []
    for c in sorted(code_points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def splits(pre_tokenizer, around):
    return {c for c in CODE_POINTS if len(pre_tokenizer.pre_tokenize_str(
        around + chr(c) + around)) > 1}


def removed(normalizer):
    return {c for c in CODE_POINTS if normalizer.normalize_str(chr(c)) == ""}


def bert(**flags):
    options = dict(clean_text=False, handle_chinese_chars=False,
                   strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**(options | flags))


def classes():
    return {
        "space": splits(pre_tokenizers.WhitespaceSplit(), "\u0100"),
        "punctuation": splits(pre_tokenizers.Punctuation(), "\u0100"),
        "numeric": splits(pre_tokenizers.Digits(True), "\u0100"),
        "word": set(CODE_POINTS) - splits(pre_tokenizers.Whitespace(),
                                          "\u0100"),
        "nonspacing_mark": removed(bert(strip_accents=True)),
        "mark": removed(normalizers.StripAccents()),
        "bert_control": removed(bert(clean_text=True)),
    }


def lowercase():
    normalizer = normalizers.Lowercase()
    return {c: normalizer.normalize_str(chr(c)) for c in CODE_POINTS
            if normalizer.normalize_str(chr(c)) != chr(c)}


class Utf8proc:
    def __init__(self):
        self.lib = ctypes.CDLL("libutf8proc.so.2")
        self.libc = ctypes.CDLL(None)
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.lib.utf8proc_map.argtypes = [
            ctypes.c_char_p, ctypes.c_ssize_t,
            ctypes.POINTER(ctypes.c_void_p), ctypes.c_int]
        self.category = {c: CATEGORIES[self.lib.utf8proc_category(c)]
                         for c in CODE_POINTS}

    def form(self, text, options):
        out = ctypes.c_void_p()
        data = text.encode()
        size = self.lib.utf8proc_map(data, len(data), ctypes.byref(out),
                                     options)
        result = ctypes.string_at(out, size).decode()
        self.libc.free(out)
        return result


def print_table(name, code_points):
    cells = [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(code_points)]
    print(f"constexpr CodePoints {name}[] = {{{', '.join(cells)}}};\n")


def print_tables(found):
    lib = Utf8proc()
    ours = {
        "punctuation": {c for c in CODE_POINTS if lib.category[c][0] == "P" or
                        chr(c) in string.punctuation},
        "numeric": {c for c in CODE_POINTS if lib.category[c][0] == "N"},
        "word": {c for c in CODE_POINTS if lib.category[c] in (
            "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc")},
        "nonspacing_mark": {c for c in CODE_POINTS
                            if lib.category[c] == "Mn"},
        "mark": {c for c in CODE_POINTS if lib.category[c][0] == "M"},
        "bert_control": {c for c in CODE_POINTS if lib.category[c] in (
            "Cc", "Cf", "Co") and c not in (9, 10, 13)},
    }
    for name, mine in ours.items():
        label = "".join(part.title() for part in name.split("_"))
        print_table(f"k{label}Plus", found[name] - mine)
        print_table(f"k{label}Minus", mine - found[name])
    nfkd, nfd = normalizers.NFKD(), normalizers.NFD()
    print_table("kNotDecomposed", [
        c for c in CODE_POINTS
        if nfkd.normalize_str(chr(c)) != lib.form(chr(c), 2 | 4 | 16)])
    print_table("kNotOrdered", [
        c for c in CODE_POINTS if lib.category[c][0] == "M" and any(
            nfd.normalize_str(s) != lib.form(s, 2 | 16)
            for s in (f"a{chr(c)}\u0327", f"a\u0315{chr(c)}"))])
    lower = lowercase()
    for c in CODE_POINTS:
        mine = chr(lib.lib.utf8proc_tolower(c))
        if lower.get(c, chr(c)) != mine:
            print(f"lower {c:#x} -> "
                  f"{[hex(ord(x)) for x in lower.get(c, chr(c))]}")


def main():
    found = classes()
    if "--tables" in sys.argv:
        print_tables(found)
        return
    data = {name: ranges(members) for name, members in found.items()}
    data["lowercase"] = [[c, text] for c, text in sorted(lowercase().items())]
    (HERE / "data" / "unicode_classes.json").write_text(
        json.dumps(data, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
