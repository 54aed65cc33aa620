"""Train or evaluate `pos-tagger`: English words to their universal part of speech, from UD English EWT.

`make train MODEL=pos-tagger` writes `vocabulary.txt` and the weights; `--evaluate` measures the weights that are there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models import recipe

NAME = "pos-tagger"
HERE = Path(__file__).parent
SHAPES = ("digit", "mark", "UPPER", "Title", "lower")  # of a word; the first that applies
LONGEST_ENDING = 4  # characters
PADDING = -100  # what cross_entropy leaves out by default
SOURCE = "https://github.com/UniversalDependencies/UD_English-EWT (commit 15d613d8)"
COLUMNS = 10  # of a CoNLL-U line: ID, FORM, LEMMA, UPOS …

Sentence = list[tuple[str, str]]  # (word, tag) pairs
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """Chosen on the development file."""

    seed: int = 0
    word_count: int = 3  # a word seen less often has no entry of its own
    ending_types: int = 8  # a shape and ending shared by fewer words has no entry
    embedding: int = 128
    hidden: int = 160
    layers: int = 1
    embedding_dropout: float = 0.4
    output_dropout: float = 0.5
    rarity: float = 2.0  # a word seen n times is read by its ending with probability rarity / (rarity + n)
    lower_case: float = 0.05  # share of training sentences read in lower case …
    upper_case: float = 0.02  # … and in capitals
    title_case: float = 0.02  # … and with Every Word Capitalised
    batch: int = 64
    epochs: int = 12
    learning_rate: float = 5e-3
    averaging: float = 0.995  # the weights kept are a moving average of those trained


# --- words to ids -----------------------------------------------------------------------------------------------------


def shape_of(word: str) -> str:
    """The first of `SHAPES` that applies to a word."""
    letters = [character for character in word if character.isalpha()]
    if any(character.isdigit() for character in word):
        return "digit"
    if not letters:
        return "mark"
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return "UPPER"
    return "Title" if word[0].isupper() else "lower"


def endings(word: str) -> list[str]:
    """The entries "<shape> <ending>" that may stand for a word, longest ending first, the empty one last."""
    shape, lowered = shape_of(word), word.lower()
    longest = min(LONGEST_ENDING, len(lowered))
    return [f"{shape} {lowered[len(lowered) - length :]}" for length in range(longest, -1, -1)]


def ending_id(word: str, vocabulary: dict[str, int]) -> int:
    """The id of the longest known ending of the word's shape."""
    return next(vocabulary[entry] for entry in endings(word) if entry in vocabulary)


def word_id(word: str, vocabulary: dict[str, int]) -> int:
    """The word's one id: as written, else lower-cased, else by shape and ending."""
    for form in (word, word.lower()):
        if form in vocabulary:
            return vocabulary[form]
    return ending_id(word, vocabulary)


def make_vocabulary(counts: Counter[str], settings: Settings) -> list[str]:
    """Frequent words, most frequent first, then the endings that several words share."""
    words = [word for word, count in counts.items() if count >= settings.word_count]
    shared = Counter(entry for word in counts for entry in endings(word))
    always = {f"{form} " for form in SHAPES}
    kept = always | {entry for entry, types in shared.items() if types >= settings.ending_types}
    return sorted(words, key=lambda word: (-counts[word], word)) + sorted(kept)


def read_vocabulary() -> dict[str, int]:
    """Entry to id; the line number counts from 0. Split at line feeds only: an entry may end in a space."""
    lines = (HERE / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return {entry: number for number, entry in enumerate(lines)}


# --- data -------------------------------------------------------------------------------------------------------------


def read(part: str) -> list[Sentence]:
    """The sentences of `train`, `dev` or `test`, from the treebank's own file."""
    file = f"en_ewt-ud-{part}.conllu"
    text = recipe.original(NAME, file, SOURCE)
    return parse(text, str(recipe.DATA / file))


def parse(text: str, name: str) -> list[Sentence]:
    """The words and tags of a CoNLL-U file (https://universaldependencies.org/format.html).

    Comments, ranges of several words ("29-30") and words that are not written ("8.1") are left out.

    Args:
        text: the file's.
        name: of the file, for what is said if it is in another format.
    """
    sentences: list[Sentence] = [[]]
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#"):
            continue
        if not line.strip():
            sentences.append([])
            continue
        columns = line.rstrip("\r").split("\t")
        if len(columns) != COLUMNS:
            raise SystemExit(f"{name}, line {number}: a CoNLL-U line has {COLUMNS} columns, this one {len(columns)}.")
        if columns[0].isdecimal():
            sentences[-1].append((columns[1], columns[3]))
    return [sentence for sentence in sentences if sentence]


def count_words(sentences: Sequence[Sentence]) -> Counter[str]:
    """How often each word occurs, as written."""
    return Counter(word for sentence in sentences for word, _ in sentence)


@dataclass(frozen=True)
class Corpus:
    """The training words in every way of reading them, so that an epoch only has to draw which."""

    starts: Ids  # where each sentence starts, and one past the last word
    tags: Ids
    by_word: Ids  # (ways of writing, words)
    by_ending: Ids
    rare: npt.NDArray[np.float64]  # chance to be read by the ending


def written(word: str) -> tuple[str, str, str, str]:
    """The word as it is, in lower case, in capitals, and capitalised: the ways that training reads it."""
    return word, word.lower(), word.upper(), word[:1].upper() + word[1:]


def prepare_corpus(sentences: Sequence[Sentence], vocabulary: dict[str, int], settings: Settings) -> Corpus:
    """Look every training word up once, in every way of reading it."""
    labels = {tag: number for number, tag in enumerate(recipe.manifest(NAME)["heads"][0]["labels"])}
    counts = count_words(sentences)
    words = [word for sentence in sentences for word, _ in sentence]
    forms = {word: written(word) for word in counts}
    known = {word: [word_id(form, vocabulary) for form in forms[word]] for word in counts}
    ending = {word: [ending_id(form, vocabulary) for form in forms[word]] for word in counts}
    return Corpus(
        starts=np.cumsum([0] + [len(sentence) for sentence in sentences]),
        tags=np.array([labels[tag] for sentence in sentences for _, tag in sentence]),
        by_word=np.array([known[word] for word in words]).T,
        by_ending=np.array([ending[word] for word in words]).T,
        rare=np.array([settings.rarity / (settings.rarity + counts[word]) for word in words]),
    )


def draw_ids(corpus: Corpus, settings: Settings, random: np.random.Generator) -> Ids:
    """One epoch's reading of every training word: how its sentence is written, and whether the word itself is known."""
    changed = (settings.lower_case, settings.upper_case, settings.title_case)
    way = random.choice(4, size=len(corpus.starts) - 1, p=(1 - sum(changed), *changed))
    ways = np.repeat(way, np.diff(corpus.starts))
    place = np.arange(len(corpus.tags))
    hidden = random.random(len(place)) < corpus.rare
    ids: Ids = np.where(hidden, corpus.by_ending[ways, place], corpus.by_word[ways, place])
    return ids


def batches(corpus: Corpus, settings: Settings, random: np.random.Generator) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Shuffled batches of sentences of similar length, with their tags padded."""
    ids = draw_ids(corpus, settings, random)
    lengths = np.diff(corpus.starts)
    order = np.argsort(lengths + 4 * random.random(len(lengths)))  # similar, not always the same, companions
    groups = [order[start : start + settings.batch] for start in range(0, len(order), settings.batch)]
    for group in (groups[number] for number in random.permutation(len(groups))):
        spans = [slice(corpus.starts[sentence], corpus.starts[sentence + 1]) for sentence in group]
        tags = [torch.from_numpy(corpus.tags[span]) for span in spans]
        yield [torch.from_numpy(ids[span]) for span in spans], pad_sequence(tags, True, PADDING)


# --- the model --------------------------------------------------------------------------------------------------------


class Tagger(nn.Module):
    """Embedding, bidirectional nn.LSTM, linear head; dropout acts in training only and has no weights."""

    def __init__(self, entries: int, settings: Settings, labels: int) -> None:
        super().__init__()
        between = settings.output_dropout if settings.layers > 1 else 0.0
        self.embedding = nn.Embedding(entries, settings.embedding)
        self.lstm = nn.LSTM(
            settings.embedding, settings.hidden, settings.layers, batch_first=True, dropout=between, bidirectional=True
        )
        self.head = nn.Sequential(nn.Linear(2 * settings.hidden, labels))
        self.embedding_dropout = nn.Dropout(settings.embedding_dropout)
        self.output_dropout = nn.Dropout(settings.output_dropout)

    def forward(self, sentences: list[Tensor]) -> Tensor:
        """Scores (sentences, longest, labels); each direction sees the sentence's own words only, never padding."""
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        embedded = self.embedding_dropout(self.embedding(pad_sequence(sentences, batch_first=True)))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        scores: Tensor = self.head(self.output_dropout(hidden))
        return scores


def tag(model: Tagger, vocabulary: dict[str, int], sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """The most likely tag of every word."""
    labels = recipe.manifest(NAME)["heads"][0]["labels"]
    model.eval()
    found: list[list[str]] = []
    with torch.no_grad():
        for start in range(0, len(sentences), 64):
            ids = [torch.tensor([word_id(word, vocabulary) for word in s]) for s in sentences[start : start + 64]]
            best = model(ids).argmax(-1).tolist()
            found += [[labels[number] for number in row[: len(s)]] for row, s in zip(best, ids, strict=True)]
    return found


# --- quality ----------------------------------------------------------------------------------------------------------


def tag_all(model: Tagger, vocabulary: dict[str, int], sentences: Sequence[Sentence]) -> list[list[str]]:
    """The most likely tag of every word of tagged sentences."""
    return tag(model, vocabulary, [[word for word, _ in sentence] for sentence in sentences])


def most_frequent(sentences: Sequence[Sentence], train: Sequence[Sentence]) -> list[list[str]]:
    """The naive baseline: a word's most frequent tag; unknown words are PROPN when capitalised, else NOUN."""
    seen: dict[str, Counter[str]] = {}
    for word, tag in (pair for sentence in train for pair in sentence):
        seen.setdefault(word, Counter())[tag] += 1
    best = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}

    def guess(word: str) -> str:
        return best.get(word) or best.get(word.lower()) or ("PROPN" if word[0].isupper() else "NOUN")

    return [[guess(word) for word, _ in sentence] for sentence in sentences]


def accuracy(sentences: Sequence[Sentence], found: Sequence[Sequence[str]], words: set[str] | None = None) -> float:
    """Share of right tags; with `words`, among those words only."""
    hits = [
        guess == tag
        for sentence, guesses in zip(sentences, found, strict=True)
        for (word, tag), guess in zip(sentence, guesses, strict=True)
        if words is None or word in words
    ]
    return float(np.mean(hits))


def per_tag(sentences: Sequence[Sentence], found: Sequence[Sequence[str]]) -> None:
    """Precision, recall and F1 of each tag."""
    right, given, true = Counter[str](), Counter[str](), Counter[str]()
    for sentence, guesses in zip(sentences, found, strict=True):
        given.update(guesses)
        true.update(tag for _, tag in sentence)
        right.update(tag for (_, tag), guess in zip(sentence, guesses, strict=True) if tag == guess)
    print("tag     words  precision  recall     F1")
    for tag in sorted(true):
        precision, recall = right[tag] / max(1, given[tag]), right[tag] / true[tag]
        f1 = 2 * right[tag] / (given[tag] + true[tag])
        print(f"{tag:6} {true[tag]:6} {precision:10.3f} {recall:7.3f} {f1:6.3f}")


def evaluate(model: Tagger, vocabulary: dict[str, int]) -> None:
    """Print the figures of the model card."""
    train = read("train")
    known = set(count_words(train))
    for part in ("dev", "test"):
        sentences = read(part)
        unknown = set(count_words(sentences)) - known
        for title, found in (
            ("most frequent tag", most_frequent(sentences, train)),
            (NAME, tag_all(model, vocabulary, sentences)),
        ):
            whole = np.mean([[t for _, t in s] == list(g) for s, g in zip(sentences, found, strict=True)])
            print(
                f"{part:4} {title:18} {accuracy(sentences, found):7.2%} of all words, "
                f"{accuracy(sentences, found, known):7.2%} of words in the training file, "
                f"{accuracy(sentences, found, unknown):7.2%} of others, {whole:7.2%} of sentences entirely"
            )
    per_tag(sentences, found)
    print("I love China:", *tag(model, vocabulary, [["I", "love", "China"]])[0])


# --- training ---------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> tuple[Tagger, list[str]]:
    """The moving average of the weights trained, and the vocabulary."""
    recipe.prepare(settings.seed)
    random = np.random.default_rng(settings.seed)
    sentences, held_out = read("train"), read("dev")
    entries = make_vocabulary(count_words(sentences), settings)
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    corpus = prepare_corpus(sentences, vocabulary, settings)
    model = Tagger(len(entries), settings, len(recipe.manifest(NAME)["heads"][0]["labels"]))
    blend = get_ema_multi_avg_fn(settings.averaging)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=blend)
    averaged = cast(Tagger, average.module)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    steps = settings.epochs * -(-len(sentences) // settings.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=steps)
    for epoch, bar in recipe.progress(settings.epochs, "epochs"):
        model.train()
        losses = []
        for ids, tags in batches(corpus, settings, random):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), tags.flatten(), ignore_index=PADDING)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            losses.append(float(loss.detach()))
        right = accuracy(held_out, tag_all(averaged, vocabulary, held_out))
        bar.update(bar.task_ids[0], loss=float(np.mean(losses)))
        bar.console.print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {right:.2%} of the dev words")
    return averaged, entries


def load(vocabulary: dict[str, int]) -> Tagger:
    """The model as the files describe it."""
    model = Tagger(len(vocabulary), Settings(), len(recipe.manifest(NAME)["heads"][0]["labels"]))
    model.load_state_dict(load_file(HERE / "1" / "model.safetensors"))
    return model


def sample(model: Tagger, vocabulary: dict[str, int]) -> tuple[str, dict[str, Any], list[Tensor]]:
    """Three sentences of unlike length, some of their words in no list, and the scores of every word's tags."""
    sentences = [
        ["I", "love", "China"],
        ["The", "snorkelious", "GLIBBERS", "frambled", "35", "quixotic", "Drumbles", "."],
        ["Run", "!"],
    ]
    model.eval()
    with torch.no_grad():
        scores = [model([torch.tensor([word_id(word, vocabulary) for word in words])])[0] for words in sentences]
    return "Three sentences, one of words that nobody knows", {"text": [" ".join(words) for words in sentences]}, scores


def main() -> None:
    """Train, write and measure, or only measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluate", action="store_true", help="only measure the weights that are there")
    parser.add_argument("--sample", action="store_true", help="only write the sample of the weights that are there")
    options = parser.parse_args()
    if not (options.evaluate or options.sample):
        model, entries = train(Settings())
        (HERE / "vocabulary.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
        recipe.save(model, NAME)
    recipe.prepare()
    vocabulary = read_vocabulary()
    model = load(vocabulary)
    if not options.evaluate:
        recipe.save_sample(NAME, *sample(model, vocabulary))
    if options.sample:
        return
    evaluate(model, vocabulary)


if __name__ == "__main__":
    main()
