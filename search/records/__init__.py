"""What a study keeps beside its trials, and what it leaves for those who read it later."""
