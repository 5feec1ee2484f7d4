"""What workers on several hosts need: locks, signs of life and data, with nothing shared but servers' addresses."""
