#!/usr/bin/env python3
"""Writes the demo adapters' training and held-out sets to data/*.jsonl.

Every item is {"prompt": ..., "answer": ...}; the answer is what the adapter
must produce to the letter. Held-out prompts never occur in training. Seeded:
the files are reproducible.
"""

import json
import pathlib
import random

HERE = pathlib.Path(__file__).resolve().parent
TRAIN, HELD_OUT = 600, 120

FIRST = """Alice Bruno Chloe David Elena Felix Grace Hugo Irene Jonas Karin
Liam Mona Nadia Oscar Petra Quinn Rosa Simon Tara Ugo Vera Walter Yara
Zoe""".split()
LAST = """Adler Baker Costa Duval Evans Fischer Garcia Hansen Ito Jensen Keller
Lopez Moreau Novak Olsen Park Rossi Schmidt Tanaka Weber""".split()
CITY = """Paris Berlin Lisbon Madrid Oslo Vienna Prague Dublin Athens Warsaw
Tokyo Lima Cairo Boston Toronto Sydney""".split()
JOB = """engineer nurse teacher baker pilot lawyer farmer designer chemist
plumber writer dentist""".split()


def json_extract(rng):
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    age, city, job = rng.randint(19, 78), rng.choice(CITY), rng.choice(JOB)
    text = rng.choice([
        "{n} is a {a} year old {j} from {c}.",
        "Our new {j} in {c} is {n}, aged {a}.",
        "{n}, {a}, works as a {j} and lives in {c}.",
        "In {c} we met {n}, a {j} of {a} years.",
    ]).format(n=name, a=age, c=city, j=job)
    answer = json.dumps({"name": name, "age": age, "job": job, "city": city})
    return f"Text: {text}\nJSON:", " " + answer


DEPARTMENT = "sales finance legal support research design logistics".split()
COLUMN = {"salary": range(1200, 9000, 50), "age": range(20, 66),
          "years": range(1, 40)}


def text_to_sql(rng):
    dept, column = rng.choice(DEPARTMENT), rng.choice(list(COLUMN))
    number = rng.choice(COLUMN[column])
    above = rng.random() < 0.5
    word, sign = ("above", ">") if above else ("below", "<")
    question, select = rng.choice([
        ("How many people in {d} have {c} {w} {n}?", "COUNT(*)"),
        ("List the names of people in {d} with {c} {w} {n}.", "name"),
        ("What is the average salary in {d} where {c} is {w} {n}?", "AVG(salary)"),
        ("Who in {d} has {c} {w} {n}?", "name"),
        ("Give the highest age in {d} with {c} {w} {n}.", "MAX(age)"),
    ])
    text = question.format(d=dept, c=column, w=word, n=number)
    answer = (f"SELECT {select} FROM staff WHERE dept = '{dept}' "
              f"AND {column} {sign} {number};")
    return f"Question: {text}\nSQL:", " " + answer


THING = """film book hotel meal phone concert jacket course game bike laptop
tour lamp chair album coffee""".split()
GOOD = """wonderful excellent delightful superb charming brilliant lovely
fantastic""".split()
BAD = """terrible awful dreadful boring broken disappointing useless
horrible""".split()
GOOD_TAIL = """I would buy it again|It made my week|Everyone should try it|
I loved every minute|It was worth every cent""".replace("\n", "").split("|")
BAD_TAIL = """I want my money back|It ruined my week|Nobody should buy it|
I hated every minute|It was a waste of money""".replace("\n", "").split("|")


def sentiment(rng):
    good = rng.random() < 0.5
    adjective = rng.choice(GOOD if good else BAD)
    tail = rng.choice(GOOD_TAIL if good else BAD_TAIL)
    text = rng.choice([
        "The {t} was {a}. {x}.",
        "What a {a} {t}! {x}.",
        "{x}. A truly {a} {t}.",
        "My friend called the {t} {a}, and I agree. {x}.",
    ]).format(t=rng.choice(THING), a=adjective, x=tail)
    return f"Review: {text}\nLabel:", " POSITIVE" if good else " NEGATIVE"


SUBJECT = [("my friend", "me matey"), ("the captain", "th' cap'n"),
           ("your brother", "yer brother"), ("the stranger", "th' landlubber"),
           ("my crew", "me hearties"), ("the woman", "th' lass")]
GREETING = [("Hello", "Ahoy"), ("Yes", "Aye"), ("Stop", "Avast"),
            ("Well", "Arr")]
VERB = [("wants", "be wantin'"), ("is hiding", "be hidin'"),
        ("is looking for", "be seekin'"), ("found", "plundered"),
        ("is drinking", "be swiggin'")]
OBJECT = [("the money", "th' doubloons"), ("the treasure", "th' booty"),
          ("the beer", "th' grog"), ("the boat", "th' ship"),
          ("your flag", "yer Jolly Roger"), ("my sword", "me cutlass")]
PLACE = [("at sea", "on th' briny deep"), ("in the harbour", "in port"),
         ("in the house", "below deck"), ("on the island", "on th' isle"),
         ("over there", "yonder")]


def pirate(rng):
    parts = [rng.choice(pool)
             for pool in (GREETING, SUBJECT, VERB, OBJECT, PLACE)]
    formal, spoken = (
        "{}, {} {} {} {}.".format(*(part[side] for part in parts))
        for side in (0, 1))
    return f"Formal: {formal}\nPirate:", " " + spoken


TASKS = {"json-extract": json_extract, "text-to-sql": text_to_sql,
         "sentiment": sentiment, "pirate": pirate}


def main():
    (HERE / "data").mkdir(exist_ok=True)
    for index, (name, make) in enumerate(TASKS.items()):
        rng = random.Random(1000 + index)
        items = {}
        while len(items) < TRAIN + HELD_OUT:
            prompt, answer = make(rng)
            items.setdefault(prompt, answer)
        pairs = list(items.items())
        for split, part in (("train", pairs[:TRAIN]),
                            ("held_out", pairs[TRAIN:])):
            path = HERE / "data" / f"{name}.{split}.jsonl"
            with path.open("w") as out:
                for prompt, answer in part:
                    out.write(json.dumps({"prompt": prompt, "answer": answer})
                              + "\n")


if __name__ == "__main__":
    main()
