#!/usr/bin/env python3
"""Golden values of the caption metrics, from nltk 3.10, rouge-score, sacrebleu (tokenizer 13a) and pycocoevalcap.

    python3 tests/reference/caption_metrics.py WORDNET PUNKT

WORDNET is the folder of Debian's wordnet-base (/usr/share/wordnet), PUNKT the file src/data/english.json of the crate
punkt 1.0.5. Java runs the PTB tokenizer of pycocoevalcap. BLEU, whose script Hugging Face `evaluate` downloads, is
written out here from its definition.
"""
import json
import math
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

DATA = Path(tempfile.mkdtemp())
os.environ["NLTK_DATA"] = str(DATA)

import nltk  # noqa: E402
import numpy as np  # noqa: E402
from nltk.corpus.reader.wordnet import WordNetCorpusReader  # noqa: E402
from nltk.stem.porter import PorterStemmer  # noqa: E402
from nltk.translate.meteor_score import meteor_score  # noqa: E402
from pycocoevalcap.bleu.bleu import Bleu  # noqa: E402
from pycocoevalcap.cider.cider import Cider  # noqa: E402
from pycocoevalcap.rouge.rouge import Rouge  # noqa: E402
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer  # noqa: E402
from rouge_score import rouge_scorer, scoring  # noqa: E402
from rouge_score.tokenize import tokenize as rouge_tokenize  # noqa: E402
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a  # noqa: E402

OUT = Path(__file__).parent.parent / "golden" / "caption_metrics"
ROUGES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


# ---- data of nltk ----


def install_punkt(path):
    data = json.loads(Path(path).read_text("utf8"))
    folder = DATA / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    (folder / "abbrev_types.txt").write_text("\n".join(data["abbrev_types"]), "utf8")
    (folder / "sent_starters.txt").write_text("\n".join(data["sentence_starters"]), "utf8")
    (folder / "collocations.tab").write_text("\n".join("\t".join(pair) for pair in data["collocations"]), "utf8")
    rows = (f"{word}\t{flags}" for word, flags in data["ortho_context"].items())
    (folder / "ortho_context.tab").write_text("\n".join(rows), "utf8")


class WordNet(WordNetCorpusReader):
    def map_wn(self, version="wordnet"):
        return None  # the map to other versions needs index.sense, which Debian leaves out; METEOR does not use it


def open_wordnet(source):
    folder = DATA / "corpora" / "wordnet"
    shutil.copytree(source, folder, ignore=lambda root, names: [n for n in names if (Path(root) / n).is_dir()])
    (folder / "lexnames").write_text("".join(f"{i:02}\tname{i}\t1\n" for i in range(45)))
    return WordNet(str(folder), None)


# ---- captions ----

SUBJECTS = """a man|a woman|two dogs|a group of people|the little girl|several children|an old gentleman|a cat
a baseball player|three zebras|a young boy|some skiers|the tennis player|a herd of sheep|a bride and groom|her puppies
a couple|many bicycles|a surfer|the firefighters|a train conductor|one giraffe|Dr. Smith|Mr. Jones' dog""".replace("\n", "|").split("|")
VERBS = """is riding|rides|ride|are standing next to|stands near|stood beside|is sitting on|sits upon|jumping over|is holding
holds|carries|is carrying|were eating|eats|is playing with|plays|watches|is looking at|walking along|ran across|swimming in
is flying|has been photographed with|poses beside|leaning against|isn't touching|can't reach|cannot see|lying on""".replace("\n", "|").split("|")
OBJECTS = """a surfboard|the wave|a wooden bench|a red fire hydrant|the kitchen counter|a frisbee|two skateboards|tall grass
a plate of vegetables|a half-eaten hot-dog|the city street|an umbrella|a laptop computer|the child's bicycle|some luggage
a snowy mountain|the railway tracks|a parked motorcycle|pizza slices|an airplane|a couch|the sofa|automobiles|a car
a stop sign|the beach|a teddy bear|baseball bats|the men's shoes|a clock tower|knives and forks|wolves|geese""".replace("\n", "|").split("|")
PLACES = """in the park|at the beach|on a sunny day|during the afternoon|in front of a large building|near St. Louis
in the U.S. at noon|on 5th Ave. downtown|at 10:30 a.m. today|for $3.50|with 2,000 spectators|at 1/2 price|in Washington D.C.
under a cloudy sky|next to the water|while others look on|before the big game|in black-and-white|in the 1950's|on Elm St.""".replace("\n", "|").split("|")
ADJECTIVES = "happy|happily|largest|bigger|smaller|colorful|colourful|grey|gray|young|elderly|beautiful|wooden|wet".split("|")
ENDINGS = [".", ".", ".", " .", "", "", "!", "?", "...", " . ", ".\n", "!!"]
TAILS = """ He smiles.| It isn't far.| "Stop" is written on it.| They're happy!| The sky is blue| (see above)|, and so on
; nobody cares| -- or so it seems|: a classic| & friends| which says 'hello'| 'cause it's fun| — nice|\nA second line here.
 The dog barks. The cat sleeps. Nobody's there| etc. and more| e.g. a ball, i.e. round| No. 5 won.| J. Smith wins.""".split("|")
ODD = [
    "", " ", ".", "...", "a", "A", "!?", "\"", "''", "``", "-", "--", "a b c d", "the the the the the", "\n", "a\nb",
    'A sign reads "DON\'T WALK" in red.', "“Curly” quotes and ‘single’ ones, it’s fine.", "«Guillemets» work too.",
    "He said, \"It's 5 o'clock.\" Then he left.", "(A man.) Another man.", "What's gonna happen? Gimme a break!",
    "'Tis the season, 'twas fun; d'ye see? more'n enough, wanna go, lemme see, I gotta run", "cannot CANNOT Cannot",
    "The dogs' owner, the men's room, James's hat, the 1980s' style, rock'n'roll and rock 'n' roll",
    "He'll we've they're I'd I'm won't WON'T SHE'S", "a half-eaten, well-known - dash -- double --- triple",
    "price: $5.00, 10% off; #1 @home & more * star", "3.14 1,000 1,000,000.5 10:45 5: 5, 7.", "U.S. U.K. U.S.A. Ph.D. a.m. p.m.",
    "Mr. and Mrs. Smith vs. Dr. Who at St. Mary's Ave. No. 7 Jan. 5", "The U.S. The U.S. is big. Inc. Corp. Ltd.",
    "J. K. Rowling wrote it. I. Newton too. A. B.", "He is 5. She is 6. They are ten.", "5. a dog 6. the cat", "Wait . . . what . . . ok",
    "Ellipsis... The end... the start.... Four", "Well...no?!Yes!No.maybe", "a.b.c d.e.f. G.H. i.j", "dog.Cat.bird.", "(nested (parens) [and] {braces})",
    "naïve café über straße Ελλάς ΣΑΣ İstanbul ﬁsh", "½ cup ¼ tsp ² x³ ٣ digits", "日本語 の テキスト。", "emoji 🐕 dog 🏄‍♂️ surf", "tab\tseparated\u00a0nbsp\u2003em",
    "a man riding a wave " * 30, "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "house's houses' housing housed", "universities ponies ties flies dies lies spied died cries", "hopping hoping hopped hoped falling filing failing",
    "A man. \"Quoted.\" 'Single.' (Paren.) Next", "\"A quote at the start\" of it", "a ''double'' and \"mixed\" ``style''",
    "e-mail me at a@b.com or www.x.org/path?q=1", "C++ and C# & AT&T R&B", "<b>bold</b> &amp; &lt;tag&gt; &quot;x&quot;", "<skipped> text", "hyphen-\nated line",
    "1-2 3- 4-x a-5 10-year-old", "well , spaced , commas ; here", "No.1 no.2 No. one", "the co. and the cos. were large. inc. of", "it's its it 's it' s",
    "'quoted' 'words' 'here'", "end with apostrophe' ", "O'Reilly's o'clock y'all ma'am", "a_b __init__ snake_case", "x, y: z; (w)", "Sales rose. Sales fell. sales etc. Sales", "At 5 p.m. However, it rained. p.m. it",
    "ice_cream hot_dog", "Mt. Everest ft. lb. oz. approx. 5 in. wide", "a cat.A dog", "?", "! !", "a . b . c", ".5 and 5.", "well, 'tis' 'twas'", "the 'em and 'im", "'s 'm 'll",
    "ring-ing ied eed ing ed s ies ss", "a man is surfing , on the ocean .", "A Man Is SURFING on the OCEAN", "two men ride ; one falls:", "http://a.b/c", "50/50 24/7 and/or w/o", "1st 2nd 3rd 22nd",
]

# Rules of the PTB tokenizer that captions hardly meet.
SIGNS = """\
Mr. Smith, Dr. No. etc. end|a No. 5 bus and no. period|12 oz. 5 lb. bag|an ill. dog in Ill. today|wash. the car in Wash. D.C.
asst. capt. dept. natl. univ. prof. Mlle. Msgr. Lieut. Treas. Supt. Invt. Elec. Bldg. Blvd.|plan B. The dog|plan B. Dogs run|I. It
U.S.-based U.S.A U.S U.S.S.R. a.b.c.d a.b. e.g., i.e., etc., Ph.D, D.J.'s J.R.R. Tolkien|10:30p.m. 5:00PM 10am 10:45AM 3:30-4:30
1,000-foot 3.5-inch 1/2-inch 10:30-ish 4-5-6 4th-floor 2-1/2 x2., 3., it's., half-eaten., a|01/02/2003 10/12 2003-01-02 1-800-555-1234
A$5 US$5 NZ$5 $$ 5$ $.50 $1,000. 99¢ 50c €5 £3 ¥4 30° 20°C|'50s '90s, '05 '5 1950's 1950s' 5'10" 6' 7ft.|#tag #1 #5th @home @ home
a:b a;b 5:5 x:D sign:Pizza note:Do :) :-) ;) :P :-p =( =D|b&w B&W PB&J M&Ms H&M rock&roll Q&A|C++ c# F-16 747s R2-D2 7-up iPhone6 x-box
c'mon ma'am o'clock 5-o'clock O'Neil D'Angelo L'Oreal d'you K'nex jack-o'-lantern ne'er|y'all Y'all's ab'cd e'en s'more fish'n'chips 'n' 'N'
a/b a/b/c and/or. w/ w/o 4-way/2 a/5 km/h black/white dog's/cat 50/50%|a_b _a_ * ** *** a*b 2+2=4 a=b ~ ^ | \\ {x} [y] <c>
foo.com foo.org/bar www.foo.com. http://a.b/c user@host.com. cnn.com's b.jpg|five!six?seven five!six-seven half-eaten.The a5.b5 b.5 it.It's""".replace(
    "\n", "|"
).split("|")


def caption(rng):
    words = [rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(OBJECTS)]
    if rng.random() < 0.5:
        words.append(rng.choice(PLACES))
    if rng.random() < 0.3:
        words.insert(2, rng.choice(ADJECTIVES))
    text = " ".join(words)
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    text += rng.choice(ENDINGS)
    if rng.random() < 0.25:
        text += rng.choice(TAILS)
    return text


def vary(rng, text):
    """Another caption of the same picture: some words exchanged, dropped or doubled."""
    words = [word for word in text.split(" ") if rng.random() > 0.12]
    for _ in range(2):
        if words and rng.random() < 0.6:
            words[rng.randrange(len(words))] = rng.choice(rng.choice([SUBJECTS, VERBS, OBJECTS, PLACES, ADJECTIVES]))
    if words and rng.random() < 0.2:
        words.insert(rng.randrange(len(words)), rng.choice(words))
    return " ".join(words)


def make_items():
    rng = random.Random(3)
    items = []
    for number in range(330):
        base = caption(rng)
        references = [vary(rng, base) if rng.random() < 0.8 else caption(rng) for _ in range(rng.choice([1, 2, 3, 5, 5, 5]))]
        items.append([vary(rng, base), references])
    for number, text in enumerate(ODD):
        other = ODD[(number * 7 + 3) % len(ODD)]
        items.append([text, [vary(rng, text), other] if number % 3 else [other]])
        if number % 4 == 0:
            items.append([vary(rng, caption(rng)), [text, caption(rng), ""]])
    return [{"id": f"img-{i}", "prediction": p, "references": r} for i, (p, r) in enumerate(items)]


# ---- BLEU as evaluate computes it ----


def grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def evaluate_bleu(pairs, smooth=False):
    matched, possible, length, reference = [0] * 4, [0] * 4, 0, 0
    for prediction, references in pairs:
        length += len(prediction)
        reference += min(map(len, references))
        for n in range(1, 5):
            largest = Counter()
            for tokens in references:
                largest |= grams(tokens, n)
            matched[n - 1] += sum((grams(prediction, n) & largest).values())
            possible[n - 1] += max(len(prediction) - n + 1, 0)
    if length == 0:
        return 0.0
    if smooth:
        precisions = [(m + 1) / (p + 1) for m, p in zip(matched, possible)]
    else:
        precisions = [m / p if p else 0.0 for m, p in zip(matched, possible)]
    if min(precisions) == 0 :
        return 0.0
    mean = math.exp(sum(0.25 * math.log(p) for p in precisions))
    if reference == 0:
        return mean
    ratio = length / reference
    return mean * (1.0 if ratio > 1.0 else math.exp(1 - 1.0 / ratio))


# ---- values ----


def evaluate_values(items, wordnet):
    tokens13 = Tokenizer13a()
    pairs = [(tokens13(i["prediction"]).split(), [tokens13(r).split() for r in i["references"]]) for i in items]
    scorer = rouge_scorer.RougeScorer(ROUGES)
    rouge = [scorer.score_multi(i["references"], i["prediction"]) for i in items]
    aggregator = scoring.BootstrapAggregator()
    for score in rouge:
        aggregator.add_scores(score)
    np.random.seed(0)
    medians = {name: float(value.mid.fmeasure) for name, value in aggregator.aggregate().items()}
    tokenize = nltk.word_tokenize
    meteor = [
        meteor_score([tokenize(r) for r in i["references"]], tokenize(i["prediction"]), wordnet=wordnet) for i in items
    ]
    per_item = {"bleu": [evaluate_bleu([pair], smooth=True) for pair in pairs]}
    per_item |= {name: [float(score[name].fmeasure) for score in rouge] for name in ROUGES}
    per_item["meteor"] = [float(score) for score in meteor]
    totals = {name: float(np.mean(values)) for name, values in per_item.items()}
    totals["bleu"] = evaluate_bleu(pairs)
    return per_item, totals, medians


def ptb(texts):
    """The tokenized captions, of many texts at once.

    A word between them keeps the tokenizer from looking at the next caption to decide on the last period of one.
    """
    between = [{"caption": "zz"}]
    captions = {(i, j): [{"caption": text}] if j == 0 else between for i, text in enumerate(texts) for j in range(2)}
    found = PTBTokenizer().tokenize(captions)
    assert all(found[i, 1] == ["zz"] for i in range(len(texts)))
    return [found[i, 0][0] for i in range(len(texts))]


def coco_values(items):
    texts = [text for item in items for text in [item["prediction"], *item["references"]]]
    tokens = iter(ptb(texts))
    predictions, references = {}, {}
    for item in items:
        predictions[item["id"]] = [next(tokens)]
        references[item["id"]] = [next(tokens) for _ in item["references"]]
    bleu, bleus = Bleu(4).compute_score(references, predictions, verbose=0)
    rouge, rouges = Rouge().compute_score(references, predictions)
    cider, ciders = Cider().compute_score(references, predictions)
    per_item = {f"bleu{n + 1}": bleus[n] for n in range(4)}
    per_item |= {"rougeL_coco": rouges.tolist(), "cider": ciders.tolist()}
    totals = {f"bleu{n + 1}": bleu[n] for n in range(4)} | {"rougeL_coco": float(rouge), "cider": float(cider)}
    return per_item, totals


def synonyms(wordnet, word):
    names = {lemma.name() for synset in wordnet.synsets(word) for lemma in synset.lemmas()}
    return sorted(name for name in names if "_" not in name)


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(text.replace('],[', '],\n[').replace('},{', '},\n{') + "\n", "utf8")


def main():
    wordnet_folder, punkt = sys.argv[1:3]
    install_punkt(punkt)
    wordnet = open_wordnet(wordnet_folder)
    stem = PorterStemmer().stem
    items = make_items()
    per_item, totals, medians = evaluate_values(items, wordnet)
    coco_items, coco_totals = coco_values(items)
    write("items.json", items)
    write("scores.json", {"per_item": per_item | coco_items, "totals": totals | coco_totals, "medians": medians})

    texts = sorted({text for item in items for text in [item["prediction"], *item["references"]]})
    tokens13 = Tokenizer13a()
    texts = sorted(random.Random(1).sample(texts, 500) + ODD + SIGNS)
    columns = zip(texts, map(nltk.word_tokenize, texts), map(tokens13, texts), ptb(texts))
    write("tokens.json", [[text, words, t13, p, " ".join(rouge_tokenize(text, None))] for text, words, t13, p in columns])

    rng = random.Random(5)
    words = sorted({word for lemma in wordnet.all_lemma_names() for word in lemma.lower().split("_") if word})
    forms = [word + suffix for word in rng.sample(words, 1500) for suffix in rng.sample(["", "s", "es", "ed", "ing", "er", "est", "ly", "ies", "ness", "'s"], 2)]
    irregular = [form for table in wordnet._exception_map.values() for form in table]
    forms += rng.sample(words, 3000) + rng.sample(sorted(irregular), 700)
    forms += "sky skies dying lying tying news innings inning outings outing cannings canning howe proceed exceed succeed".split()
    forms = sorted(set(forms))
    write("stems.json", [[form, stem(form)] for form in forms])
    looked_up = rng.sample(forms, 1200) + [stem(form) for form in rng.sample(forms, 800)] + ["ice_cream", "men", "geese", "better", "best", "was", "i", "a", "."]
    write("synonyms.json", [[word, " ".join(synonyms(wordnet, word))] for word in sorted(set(looked_up))])


if __name__ == "__main__":
    main()
