"""The one family of errors that this package raises."""


class CertsError(Exception):
    """Something was refused or could not be done; the text says what, and what to do about it.

    The text is one line for a person: the command line prints it as it stands and exits 2. Anything else that
    leaves this package is a bug in it.
    """
