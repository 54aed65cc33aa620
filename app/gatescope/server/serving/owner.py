"""`Owner`: who sent a request, and what of that which the service keeps is there for them.

Sessions, stored traces, corpora and jobs are kept with the name of the key that they were made with. To everybody else
they are as if they were not there.
"""

from __future__ import annotations

from typing import NamedTuple


class Owner(NamedTuple):
    """Who sent a request."""

    name: str = ""
    """Of the key that came with it; empty without one."""
    is_admin: bool = False
    """Whether it was an admin key, which sees what all others keep."""

    @property
    def names(self) -> tuple[str, ...]:
        """Under which something is kept for this one: the own name, and none.

        What has no owner was made without a key, or by a version that knew no owners; it is everybody's.
        """
        return (self.name, "") if self.name else ("",)

    def sees(self, owner: str) -> bool:
        """Whether what is kept under this name is there for this one."""
        return self.is_admin or owner in self.names


SERVICE = Owner(is_admin=True)
"""The service itself."""
