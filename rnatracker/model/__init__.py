"""The network: what it is, where and how it is computed."""
