from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.traffic import Traffic


def test_a_window_is_half_open():
    traffic = Traffic(limit=1)
    assert [traffic.arrive(at) for at in (100.0, 101.0, 101.999, 103.0)] == [True, True, False, True]
    assert traffic.report()["peakRequestsPerSecond"] == 2
    assert traffic.report()["violations"] == 1


def test_no_limit_refuses_nobody_and_counts():
    traffic = Traffic(limit=0)
    assert all(traffic.arrive(100.0) for _ in range(50))
    assert (traffic.report()["peakRequestsPerSecond"], traffic.report()["violations"]) == (50, 0)


def test_forgetting_keeps_the_last_second_in_the_window():
    traffic = Traffic(limit=2)
    traffic.arrive(100.0), traffic.arrive(100.1)
    traffic.forget()
    assert traffic.arrive(100.2) is False
    assert traffic.report()["requests"]["total"] == 1


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_the_peak_is_that_of_the_fullest_window(milliseconds):
    arrivals = [at / 1000 for at in sorted(milliseconds)]
    traffic = Traffic(limit=0)
    for at in arrivals:
        traffic.arrive(at)
    fullest = max(sum(start <= at and at - 1.0 < start for at in arrivals) for start in arrivals)
    assert traffic.report()["peakRequestsPerSecond"] == fullest
