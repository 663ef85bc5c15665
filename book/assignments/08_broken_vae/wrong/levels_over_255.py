"""What was right is "mended": the levels end at 16, and the images become almost black.

marks: {test-codes: 0, test-log-likelihood: 2, test-kl: 2, test-bound: 2,
test-weights: 1, test-train: 2, test-sample: 1, test-whole: 0}
"""

# %% pixels


def pixels(levels):
    return levels.flatten(1) / 255
