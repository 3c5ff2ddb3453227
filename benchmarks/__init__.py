"""How fast echokit is beside other TCP echo servers: `python -m benchmarks`. Linux only."""
