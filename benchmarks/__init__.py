"""How fast echokit is beside other TCP echo servers: `python -m benchmarks`. Linux only.

Every server runs in a process of its own on one core, and the load generator on another; only
where workers are measured a server may use two. A round measures each of them once, in an order
that turns from round to round, and what is compared is compared within the round: what else the
machine does meanwhile disturbs all of them alike.
"""
