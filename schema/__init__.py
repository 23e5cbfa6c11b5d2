"""The words that the programs share: studies, stack outputs, run records, events, errors.

Holds data shapes and pure checks of them, on the standard library and pydantic alone, and how each
program's command line starts and ends. It does no I/O beyond reading a study file that it is given.
"""
