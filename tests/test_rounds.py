from benchmarks.rounds import medians, with_range


def test_a_number_is_the_median_of_its_rounds_which_stand_beside_it():
    found = medians({"speed": [1.4368, 1.0402, 0.8117], "other": [2.0, 4.0]}, 2)
    assert found == {"speed": 1.04, "other": 3.0, "by_round": {"speed": [1.44, 1.04, 0.81], "other": [2.0, 4.0]}}


def test_a_number_is_printed_with_its_range():
    assert with_range(medians({"speed": [1.4368, 1.0402, 0.8117]}, 2), "speed") == "1.04 (0.81 to 1.44)"
