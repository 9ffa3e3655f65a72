"""Search: which architectures to evaluate next, within hard budgets; knows no networks."""
