"""A module that cannot be imported."""

raise RuntimeError("this package needs a licence")
