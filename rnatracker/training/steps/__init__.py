"""What a step of the training consists of: its rate, its loss, its noise, and what is made of the result."""
