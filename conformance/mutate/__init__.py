"""
Whether the suite notices what is wrong: ``python -m conformance.mutate``.

Copies of the source with one small change each, generated from the syntax tree, are run through the suite. A change
that no test notices is either one that cannot be noticed, and `conformance.mutate.equivalent` says why, or a hole in
the suite.
"""
