"""The transport core: the only package that touches a socket."""
