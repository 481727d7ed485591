"""What is worth a person's attention: rules over a day's events, and what became of what they found."""
