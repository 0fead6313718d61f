"""The fault matrix: each named crash point with each fault that is relevant there.

Each cell runs the example project as real processes on real servers, waits until one process
reaches the crash point, causes the fault, and checks the recorded history. `./dev faults` runs the
matrix.
"""
