"""orders: event-sourced orders, read through projections."""
