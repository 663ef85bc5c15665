"""Grades submissions: the answers run in one process, the tests in another, and only values cross between them."""
