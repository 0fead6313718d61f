"""The fault matrix: every named crash point crossed with every fault that means something there.

Each cell runs the stranger's shop as real processes on real servers, brings one of them to the
crash point, lets the fault happen there, and judges the recorded history. `./dev faults` runs it.
"""
