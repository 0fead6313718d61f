"""Orders: what was placed, and what became of it. Event-sourced, read through projections."""
