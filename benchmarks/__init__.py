"""
How fast `lstm_xp` is beside its peers: ``python -m benchmarks``.

Each question is a process of its own for each number of threads. In it everybody has the same weights and inputs, gives
torch's answer before a clock is started, and then takes turns. What is quoted are ratios of medians.
"""
