"""Tests that are leak tests by a decorator, and what a failed one leaves."""

import unittest

import pytest

from weft import leaks


class TestDecorator:
    def test_a_plain_function(self):
        kept, calls = [], []

        @leaks.leak_test(times=20, checkers="memory")
        def leaking(what):
            kept.append(object())

        @leaks.leak_test
        def fails():
            calls.append(1)
            assert len(calls) < 3

        with pytest.raises(leaks.MemoryLeakError, match="leaking"):
            leaking("argument")
        with pytest.raises(AssertionError) as caught:
            fails()
        assert caught.value.__notes__ == ["This was call 3 of a leak test: those before it succeeded."]

    def test_in_a_test_case(self):
        class Case(unittest.TestCase):
            __test__ = False
            set_up, kept = 0, []

            def setUp(self):
                Case.set_up += 1

            @leaks.leak_test
            def clean(self):
                self.assertEqual(self.set_up, 1)

            @leaks.leak_test(times=20)
            def leaking(self):
                self.kept.append(object())

        result = unittest.TestResult()
        Case("clean").run(result)
        assert result.wasSuccessful(), result.failures
        Case("leaking").run(result)
        assert "memory kept increasing" in result.failures[0][1] and "_check.py" not in result.failures[0][1]

    def test_wrong_use(self):
        with pytest.raises(TypeError, match="leak_test\\(\\): there is no option 'tims'"):
            leaks.leak_test(tims=5)(lambda: None)
        with pytest.raises(TypeError, match="generator function"):
            @leaks.leak_test
            def test():
                yield


def test_a_failed_leak_test_leaves_no_watch():
    calls = iter(range(50))
    with pytest.raises(StopIteration) as caught:
        leaks.check(lambda: next(calls), checkers=leaks.Checkers.only("memory"))
    frames, trace = [], caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    (frame,) = [frame for frame in frames if frame.f_code.co_name == "_check_memory"]
    trial = frame.f_locals["trial"]
    assert trial.counting and not trial.watching
    kept = []
    assert leaks.check(lambda: kept.append(object()), times=20).error.__traceback__ is None
