"""Configuration and annotations: what may be said, and what is wrong when it is said badly. Pure."""
