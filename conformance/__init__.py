"""
The conformance suite: one LSTM on any array library, equal to `torch.nn.LSTM`.

For authors of array libraries, a real recurrent workload in the array API standard; for this package, the proof of what
it says. ``pytest conformance --xp=MODULE`` runs it on one library, ``python -m conformance`` on every one that is
installed. See README.md beside this file.
"""
