"""How fast it comes back: the load generator, its records and its result document."""
