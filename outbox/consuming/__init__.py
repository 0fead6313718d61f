"""From the streams to the handlers: readers, positions, parked sequences, partition assignment."""
