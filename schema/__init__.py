"""The words that the programs share: studies, stack outputs, run records, events, errors.

Holds data shapes and pure checks of them, on the standard library and pydantic alone.
It deliberately does no I/O beyond reading a study file that it is given.
"""
