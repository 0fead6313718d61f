"""The cost of open flow pages."""

from tests.benchmarks.flow import judged


def test_the_cost_of_pages_is_what_the_processes_use_more_than_without_a_page():
    rounds = {
        0: [{"web": 5.0, "postgres": 20.0}, {"web": 7.0, "postgres": 20.0}],
        1: [{"web": 46.0, "postgres": 30.0}],
        20: [{"web": 86.0, "postgres": 40.0}, {"web": 86.0, "postgres": 40.0}],
    }

    found = judged(rounds)

    assert found["idle_ms_a_second"] == {"web": 6.0, "postgres": 20.0}
    one, many = found["costs"]
    assert (one["ms_a_second"], one["ms_a_poll"]) == ({"web": 40.0, "postgres": 10.0}, 50.0)
    assert (many["total_ms_a_second"], many["ms_a_poll"]) == (100.0, 5.0)
    assert found["ratio"] == 2.0
