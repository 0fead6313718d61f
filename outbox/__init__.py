"""From a commit in one service to an effect in another: once, in order, whatever dies between.

A service writes its change and an outbox row in one transaction (`recorder`), a relay
publishes the rows to streams (`ticks`, `relay`, `streams`), and consumers apply them beside
their own positions (`consumer`, `inbox`, `parking`). The rules and the tests that hold them:
docs/outbox.md.
"""
