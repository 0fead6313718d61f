"""The three ways of managing data, side by side: centralized, decentralized, event-driven."""
