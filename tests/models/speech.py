"""A voice for models that listen: what they were trained for is not noise, and recordings are not ours to ship."""

import numpy as np

RATE = 16_000

# The three lowest resonances of vowels in Hz.
_VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])
_WIDTHS = np.array([80, 100, 140])


def voice(*pieces: tuple[float, bool], seed: int = 0) -> np.ndarray:
    """
    Return a voice that says vowels, and faint noise.

    Parameters
    ----------
    *pieces : tuple of float and bool
        How many seconds, and whether the voice is heard in them.
    seed : int, optional
        Which vowels, in which melody.

    Returns
    -------
    array, shape (samples,)
        The sound, float32 at 16 kHz.
    """
    rng = np.random.default_rng(seed)
    heard = np.concatenate([np.full(round(seconds * RATE), on, float) for seconds, on in pieces])
    t = np.arange(len(heard)) / RATE
    syllables = np.arange(0, t[-1] + 0.4, 0.18)  # five or six a second
    formants = np.stack([np.interp(t, syllables, f) for f in _VOWELS[rng.integers(0, 5, len(syllables))].T])
    pitch = np.interp(t, syllables, rng.uniform(95, 150, len(syllables)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros_like(t)
    for k in range(1, 40):
        resonance = (1 / (1 + ((k * pitch - formants) / _WIDTHS[:, None]) ** 2)).sum(axis=0)
        sound += resonance * np.sin(k * phase) / np.sqrt(k)
    loudness = 0.6 + 0.4 * np.cos(2 * np.pi * t / 0.18 + np.pi)
    smooth = np.convolve(heard, np.hanning(800) / np.hanning(800).sum(), "same")
    return (0.1 * sound * loudness * smooth + 0.001 * rng.standard_normal(len(t))).astype("f4")
