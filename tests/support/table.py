"""Rows of the README's table of programs: @row over a test says which program it runs, in which roles, with what load.

tests/lint/programs.py reads the decorators and compares them with the README, so neither can name what the other has not.
"""


def row(program, roles, load):
    """program, roles ("server", "client", "both"), load: literals; the lint reads them from the source."""
    def mark(test):
        test.row = (program, roles, load)
        return test
    return mark
