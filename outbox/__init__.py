"""A transactional outbox: events are delivered once and in order across crashes.

A service writes its change and an outbox row in one transaction (`recorder`). A relay publishes the
rows to streams (`publishing`, `streams`). Consumers apply each event in the transaction that moves
their position (`consumer`, `consuming`). docs/outbox.md lists the invariants and their tests.
"""

__version__ = "0.3.0"
