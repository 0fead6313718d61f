"""`./dev demo`: traffic on the running stack for a limited time, and a live display of its effects.

`traffic` sends the requests of several customers at a rate, `orders` follows what becomes of the
orders, and `fault` makes the orders of one customer fail, so that their events are parked.
"""
