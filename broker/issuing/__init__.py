"""The corridor: the order of the steps, and nothing else. Uses the standard library, `model` and `errors`."""
