"""Whether a day can be trusted: the equations, the rules, the gate."""
