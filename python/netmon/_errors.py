"""The errors of netmon.

netmon.Error
├── LibraryError            the library cannot be found, loaded, or used here
├── InvalidArgumentError    also a ValueError
├── ConfigError             also a ValueError
├── ClosedError
├── ForkedProcessError
├── TimedOutError           also a TimeoutError
├── PermissionDeniedError   also a PermissionError
├── UnreachableError        also a ConnectionError
├── UnsupportedError        also a NotImplementedError
├── NoDataError             also a LookupError
├── ResourceError
└── InternalError           also a RuntimeError
"""

from __future__ import annotations


class Error(Exception):
    """Base of all errors of netmon. Its text is a sentence that says what was wrong, where, and what would be right.

    Attributes:
        status: the library's status (a negative ``NETMON_ERR_`` value), None where no call was made.
        os_errno: the system's error number, None where there is none.
        target: whom the call was about, None where it was about nobody.
    """

    status: int | None = None

    def __init__(self, message: str, *, os_errno: int | None = None, target: str | None = None) -> None:
        super().__init__(message)
        self.os_errno = os_errno
        self.target = target


class LibraryError(Error):
    """The library cannot be found, loaded, or used on this system."""


class InvalidArgumentError(Error, ValueError):
    """An argument, or a request, is not understood."""

    status = -1


class ConfigError(Error, ValueError):
    """Something in a configuration is wrong."""

    status = -2


class ClosedError(Error):
    """The monitor was closed."""

    status = -3


class ForkedProcessError(Error):
    """The call is not possible in this forked child."""

    status = -4


class TimedOutError(Error, TimeoutError):
    """No answer came in time."""

    status = -5


class PermissionDeniedError(Error, PermissionError):
    """The system does not allow it."""

    status = -6


class UnreachableError(Error, ConnectionError):
    """The target cannot be reached."""

    status = -7


class UnsupportedError(Error, NotImplementedError):
    """Not possible on this system or with this version."""

    status = -8


class NoDataError(Error, LookupError):
    """Nothing is published."""

    status = -9


class ResourceError(Error):
    """No memory, descriptor, thread or monitor is left."""

    status = -10


class InternalError(Error, RuntimeError):
    """A defect of netmon."""

    status = -11


_BY_STATUS: dict[int | None, type[Error]] = {
    cls.status: cls
    for cls in (
        InvalidArgumentError,
        ConfigError,
        ClosedError,
        ForkedProcessError,
        TimedOutError,
        PermissionDeniedError,
        UnreachableError,
        UnsupportedError,
        NoDataError,
        ResourceError,
        InternalError,
    )
}


def error_for(status: int, message: str) -> Error:
    """Return the error for a status of the library."""
    cls = _BY_STATUS.get(status, InternalError)
    return cls(message or f"the library returned status {status} without a sentence")
