"""An example project that uses the outbox: an app, a few short models, one setting.

It shows that `outbox` can be copied into your own project. The fault tests run it.
"""
