"""`./dev show TECHNIQUE`: a technique at work on the running stack, and the same without it.

Each module has one technique, and a function that narrates and checks each step. `techniques` lists
them, and `stage` has what they use: requests as a client sends them, SQL, and pauses of processes.
"""
