"""The one exception that a user can cause."""


class PagebenchError(Exception):
    """What was wrong and what to do about it, in one line.

    ``cli.py`` turns it into that line and ``exit_code``.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
