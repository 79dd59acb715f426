"""Work over processes keeps its order and loses no case."""

import hashlib
import os
import time

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ich.parallel import each


def double(number):
    return 2 * number


def double_or_die(number):
    if number == 3:
        os._exit(9)  # as a decoder does that writes where it must not
    return 2 * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order(jobs):
    assert each(double, [(n,) for n in range(20)], jobs) == list(range(0, 40, 2))


def test_a_case_that_kills_its_process_is_named_and_the_others_are_done():
    found = each(double_or_die, [(n,) for n in range(8)], 2, dead=lambda number: f"case {number} died")
    assert found == [0, 2, 4, "case 3 died", 8, 10, 12, 14]


def double_or_hang(number):
    if number == 3:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # within C, as a decoder hangs: no handler gets a turn
    return 2 * number


def test_a_case_that_hangs_is_ended_and_the_others_are_done():
    begun = time.monotonic()
    found = each(double_or_hang, [(n,) for n in range(8)], 2, dead=lambda number: f"case {number}", limit_s=1.0)
    assert found == [0, 2, 4, "case 3", 8, 10, 12, 14]
    assert time.monotonic() - begun < 60


def test_a_limit_is_of_each_case_and_not_of_all():
    assert each(slowly, [(n,) for n in range(8)], 2, dead=lambda number: None, limit_s=1.0) == list(range(8))


def slowly(number):
    time.sleep(0.4)
    return number


def test_without_a_word_for_it_the_death_is_raised():
    with pytest.raises(TerminatedWorkerError):
        each(double_or_die, [(3,), (4,)], 2)


def test_progress_goes_to_stderr_and_only_where_wanted(capsys):
    each(double, [(1,)], 1)
    assert capsys.readouterr().err == ""
    each(double, [(1,)], 1, what="cases")
    assert "cases: 100%" in capsys.readouterr().err
