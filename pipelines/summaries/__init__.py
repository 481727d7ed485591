"""What a day means: facts computed by code, worded by a writer, checked by a guard, delivered."""
