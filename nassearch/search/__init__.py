"""Search: which architectures to evaluate next, within hard budgets; knows no networks."""

ALGORITHMS = {
    "guided": "nassearch.search.guided:Guided",
    "tpe": "nassearch.search.optuna_search:TPE",
    "nsga2": "nassearch.search.optuna_search:NSGA2",
    "nsga3": "nassearch.search.optuna_search:NSGA3",
    "gp": "nassearch.search.optuna_search:GP",
    "random": "nassearch.search.optuna_search:Random",
}
