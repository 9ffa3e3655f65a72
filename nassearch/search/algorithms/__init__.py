"""Search algorithms behind ask and tell; one file each."""

ALGORITHMS = {
    "guided": "nassearch.search.algorithms.guided:Guided",
    "tpe": "nassearch.search.algorithms.optuna:TPE",
    "nsga2": "nassearch.search.algorithms.optuna:NSGA2",
    "nsga3": "nassearch.search.algorithms.optuna:NSGA3",
    "gp": "nassearch.search.algorithms.optuna:GP",
    "random": "nassearch.search.algorithms.optuna:Random",
}
