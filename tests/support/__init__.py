"""What tests share: small data and models, finished runs, studies, commands in real processes."""
