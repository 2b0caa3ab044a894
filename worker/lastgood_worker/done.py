"""What becomes of a request."""

Done = tuple[bool, str]  #: whether it was done, and how it stands
