"""A project that isn't ours and uses the outbox: an app, a few short models, one setting.

It shows that `outbox` can be carried away, and it is what the fault tests run as processes.
"""
