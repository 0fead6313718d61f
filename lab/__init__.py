"""Three ways of managing data, side by side: centralized, decentralized, event-driven.

For development: installed if LAB=on. Start with `ways`, then read one module for each way.
"""
