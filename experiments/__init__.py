"""The long runs behind stored numbers: one script a result, run as `python -m experiments.NAME`."""
