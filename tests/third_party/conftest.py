"""What is here is run by test_third_party.py, on a path of its own: there is nothing to collect."""

collect_ignore_glob = ["*"]
