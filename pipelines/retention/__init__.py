"""What is kept and for how long, and what is left of a tenant that is erased: nothing."""
