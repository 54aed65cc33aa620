"""How tokens are drawn, against NumPy's own softmax and masks; and how texts are written with it."""

import numpy as np
import pytest
import torch
from torch import nn

from gatescope.pipeline.query import Query
from gatescope.pipeline.sampling import Sampler, Sampling, allowed, scaled_scores
from gatescope.pipeline.tokens import TokenInputs
from gatescope.selection import Selection
from tests.bulk import some

SCORES = (0.0, 1.0, 2.0, -1.0, 2.0, -torch.inf)
CHARACTERS = 8
KEPT = [(None, None), (3, None), (None, 0.7), (4, 0.8), (1, None)]  # the first so many, and so much of them


def softmax(scores):
    weights = np.exp(scores - np.max(scores))
    return weights / weights.sum()


def kept_by(scores, top_k, top_p):
    """The tokens that may be drawn, found one after the other."""
    ranked = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    ranked = [token for token in ranked if scores[token] > -np.inf][:top_k]
    if top_p is None:
        return set(ranked)
    probabilities, total, kept = softmax(np.array([scores[token] for token in ranked])), 0.0, set()
    for token, probability in zip(ranked, probabilities, strict=True):
        if total >= top_p:
            break
        kept.add(token)
        total += probability
    return kept


class TestDraws:
    @pytest.mark.random
    @pytest.mark.parametrize(
        ("temperature", "top_k", "top_p"),
        some([(temperature, *kept) for temperature in (0.5, 1.0, 2.0) for kept in KEPT], 2),
    )
    def test_tokens_are_drawn_as_often_as_the_softmax_says(self, temperature, top_k, top_p):
        draws, scores = 4000, np.array(SCORES) / temperature
        sampler, given = Sampler(Sampling(temperature, top_k, top_p, seed=7)), torch.tensor([SCORES])
        counts = np.bincount([int(sampler.draw(given)) for _ in range(draws)], minlength=len(SCORES))
        kept = sorted(kept_by(scores, top_k, top_p))
        expected = np.zeros(len(SCORES))
        expected[kept] = softmax(scores[kept])
        deviation = np.sqrt(expected * (1 - expected) / draws)
        assert (np.abs(counts / draws - expected) <= 5 * deviation).all()
        assert set(np.flatnonzero(counts)) <= set(kept)

    @pytest.mark.parametrize("top_k", [None, 1, 2, 5, 100])
    @pytest.mark.parametrize("top_p", [None, 1e-9, 0.3, 0.5, 0.9, 1.0])
    def test_what_may_be_drawn_is_what_numpy_says(self, top_k, top_p):
        scores = np.random.default_rng(0).normal(size=(50, 12)).round(1)  # some are equal
        scores[0] = -np.inf
        scores[0, 3] = 1.0
        masks = allowed(torch.tensor(scores), top_k, top_p)
        for row, mask in zip(scores, masks, strict=True):
            assert set(np.flatnonzero(mask)) == kept_by(row, top_k, top_p)

    def test_top_p_counts_the_probabilities_at_the_temperature_and_within_top_k(self):
        given = torch.tensor([[3.0, 2.0, 1.0, 0.0]])  # softmax: 0.644 0.237 0.087 0.032
        assert allowed(scaled_scores(given, 1.0), None, 0.7).sum() == 2
        assert allowed(scaled_scores(given, 0.5), None, 0.7).sum() == 1  # 0.865
        assert allowed(scaled_scores(given, 1.0), 2, 0.7).sum() == 1  # 0.731 of the two

    def test_a_temperature_of_zero_takes_the_likeliest_whatever_else_is_said(self):
        scores = torch.randn(30, 9)
        sampler = Sampler(Sampling(0.0, top_k=3, top_p=0.1, seed=5))
        assert torch.equal(sampler.draw(scores), scores.argmax(dim=-1))

    @pytest.mark.parametrize("temperature", [1e-300, 1e-30])
    def test_the_smallest_temperatures_take_the_likeliest(self, temperature):
        scores = torch.randn(30, 9)
        assert torch.equal(Sampler(Sampling(temperature)).draw(scores), scores.argmax(dim=-1))

    def test_every_sample_and_seed_has_draws_of_its_own(self):
        scores, draws = torch.zeros(4, 1000), []
        for seed in (0, 1, 2):
            drawn = Sampler(Sampling(1.0, seed=seed, samples=4)).draw(scores).tolist()
            again = Sampler(Sampling(1.0, seed=seed, samples=2)).draw(scores[:2]).tolist()
            assert again == drawn[:2]  # how many samples there are does not matter
            draws += drawn
        assert len(set(draws)) >= 10

    def test_a_row_draws_what_it_draws_alone(self):
        scores, sampling = torch.randn(5, 40), Sampling(1.3, top_k=20, top_p=0.9, seed=11)
        together = Sampler(sampling).draw(scores).tolist()
        assert [int(Sampler(sampling).draw(row[None])) for row in scores] == together


class TestTexts:
    @pytest.fixture
    def writer(self, case):
        return case("embedding", "next_token", head=(CHARACTERS,), output={"temperature": 0.9, "seed": 3})

    def test_the_first_sample_is_what_one_sample_writes(self, writer, texts):
        rows = texts(5, 1, 3)
        one, three = (
            writer.ask(rows, horizon=12, output=True, sampling=Sampling(0.9, seed=3, samples=samples))
            for samples in (1, 3)
        )
        assert three.generated.tokens.shape == (3, 3, 12)
        assert torch.equal(three.generated.tokens[:, 0], one.generated.tokens[:, 0])
        assert torch.equal(three.prediction.choices, one.prediction.choices)
        torch.testing.assert_close(three.prediction.values, one.prediction.values, rtol=0, atol=1e-5)
        torch.testing.assert_close(three.output, one.output, rtol=0, atol=1e-5, equal_nan=True)
        texts_of_a_row = {tuple(sample.tolist()) for sample in three.generated.tokens[0]}
        assert len(texts_of_a_row) == 3

    def test_each_sample_is_continued_from_its_own_sequence_and_state(self, writer, texts, random):
        rows, state = texts(5, 1, 3), writer.state(3, random)
        together = writer.ask(rows, horizon=9, initial_state=state, sampling=Sampling(0.9, seed=3, samples=3))
        for row, sequence in enumerate(rows):
            own = type(state)(*(value[:, row : row + 1] for value in state))
            alone = writer.ask([sequence], horizon=9, initial_state=own, sampling=Sampling(0.9, seed=3, samples=2))
            assert torch.equal(alone.generated.tokens[0], together.generated.tokens[row, :2])

    def test_a_shorter_horizon_writes_the_beginning_of_each_sample(self, writer, texts):
        sampling = Sampling(0.9, top_k=5, top_p=0.95, seed=8, samples=3)
        long, short = (
            writer.ask(texts(5, 1), horizon=horizon, sampling=sampling).generated.tokens for horizon in (30, 12)
        )
        assert torch.equal(short, long[:, :, :12])

    def test_a_text_ends_with_the_first_stop_and_the_others_go_on(self, writer, texts):
        rows, free = texts(5, 1, 3), Sampling(0.05, seed=3, samples=2)
        whole = writer.ask(rows, horizon=40, sampling=free).generated.tokens
        apart = int((whole[0, 0] != whole[1, 0]).nonzero()[0])
        stop = (tuple(whole[0, 0, : apart + 1].tolist()),)
        answer = writer.ask(
            rows, horizon=40, sampling=Sampling(0.05, seed=3, samples=2, stop=stop), output=True, trace=Selection()
        )
        written = answer.generated
        for row, sample in np.ndindex(3, 2):
            ids = whole[row, sample].tolist()
            ends = [n for n in range(1, 41) if any(tuple(ids[max(0, n - len(s)) : n]) == s for s in stop)]
            length = ends[0] if ends else 40
            assert written.lengths[row, sample] == length
            assert written.tokens[row, sample, :length].tolist() == ids[:length]
            assert bool(written.is_stopped[row, sample]) == bool(ends)
        lengths = written.lengths[:, 0]
        assert len(set(lengths.tolist())) > 1
        assert answer.sequence_lengths.tolist() == (torch.tensor([5, 1, 3]) + lengths).tolist()
        assert torch.equal(answer.trace.sequence_lengths, answer.sequence_lengths)
        assert torch.equal(answer.prediction.steps, lengths)
        for row, length in enumerate(lengths.tolist()):
            assert answer.prediction.values[row, :length].isfinite().all()
            assert answer.prediction.values[row, length:].isnan().all()

    def test_nothing_is_computed_once_every_text_has_ended(self, writer, texts):
        steps = []
        query = Query(
            torch.stack(texts(3)),
            torch.tensor([3]),
            horizon=10_000_000,
            sampling=Sampling(1.5, seed=1, stop=tuple((token,) for token in range(CHARACTERS))),
            on_drawn=steps.append,
        )
        answer = writer.pipeline.answer(query)
        (((only),),) = steps
        assert (only.sequence, only.sample, only.step, only.finish_reason) == (0, 0, 0, "stop")
        assert answer.generated.lengths.tolist() == [[1]]

    def test_every_token_is_told_once_in_the_order_of_steps(self, writer, texts):
        told, sampling = [], Sampling(0.9, seed=3, samples=2, stop=((2,),))
        query = Query(
            torch.stack(texts(3, 3)), torch.tensor([3, 3]), horizon=8, sampling=sampling, on_drawn=told.extend
        )
        written = writer.pipeline.answer(query).generated
        assert [each.step for each in told] == sorted(each.step for each in told)
        for row, sample in np.ndindex(2, 2):
            own = [each for each in told if (each.sequence, each.sample) == (row, sample)]
            length = int(written.lengths[row, sample])
            assert [each.token for each in own] == written.tokens[row, sample, :length].tolist()
            reason = "stop" if written.is_stopped[row, sample] else "length"
            assert [each.finish_reason for each in own] == [*[None] * (length - 1), reason]

    def test_probabilities_are_drawn_from_as_such(self, build):
        torch.manual_seed(5)
        modules = nn.ModuleDict(
            {"embedding": nn.Embedding(6, 4), "lstm": nn.LSTM(4, 8), "fc": nn.Linear(8, 6)}
        ).requires_grad_(requires_grad=False)
        tokens = TokenInputs(kind="tokens", vocabulary="characters", characters="abcdef")
        layers = [{"name": name, "type": name} for name in ("embedding", "lstm")] + [{"name": "fc", "type": "linear"}]
        behind = [*layers, {"name": "softmax", "type": "activation", "function": "softmax"}]
        query = Query(torch.tensor([[1, 2, 3]]), torch.tensor([3]), horizon=40, sampling=Sampling(1.0, seed=4))
        plain, soft = (
            build(each, modules, [{"task": "next_token"}], tokens).answer(query).generated.tokens
            for each in (layers, behind)
        )
        assert torch.equal(plain, soft)
        assert len(set(plain.flatten().tolist())) > 3
