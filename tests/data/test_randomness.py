import itertools

import numpy as np

from fusmae.data.randomness import Purpose, generator, generators


def test_the_same_key_gives_the_same_draws():
    assert np.array_equal(generator(3, Purpose.MASK, 2, 7).random(100), generator(3, Purpose.MASK, 2, 7).random(100))


def test_seed_purpose_epoch_and_index_each_give_a_stream_of_their_own():
    keys = list(itertools.product((0, 1), Purpose, range(4), range(4)))
    first = {generator(*key).random(8).tobytes() for key in keys}
    assert len(first) == len(keys)


def test_streams_of_neighbouring_keys_do_not_overlap():
    """A counter-based generator whose index sat in the lowest word would give index 1 the second block of index 0."""
    draws = {index: set(generator(0, Purpose.MASK, 0, index).integers(2**63, size=2000)) for index in range(4)}
    for a, b in itertools.combinations(draws.values(), 2):
        assert not a & b


def test_swapping_epoch_and_index_changes_the_draw():
    assert generator(0, Purpose.AUGMENT, 1, 2).random() != generator(0, Purpose.AUGMENT, 2, 1).random()


def test_draws_are_uniform():
    draws = np.array([generator(0, Purpose.MASK, epoch, index).random() for epoch in range(20) for index in range(100)])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(np.histogram(draws, 4, (0, 1))[0] / len(draws) - 0.25).max() < 0.04
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.1


def test_generators_of_many_keys_draw_what_each_key_alone_draws():
    """Bounded integers leave half a word behind, which must not reach the next key."""
    keys = [(0, 0), (0, 1), (3, 2**40), (0, 0)]
    many = [(random.integers(4), *random.random(9)) for random in generators(5, Purpose.AUGMENT, keys)]
    alone = [generator(5, Purpose.AUGMENT, *key) for key in keys]
    assert many == [(random.integers(4), *random.random(9)) for random in alone]
