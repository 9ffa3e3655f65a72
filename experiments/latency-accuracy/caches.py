"""How much longer a network's first runs take after other networks have used the caches.

    python experiments/latency-accuracy/caches.py

Prints a table: networks of two spaces in fp32 and int8 under ONNX Runtime, one thread, in random
order; each runs 30 times in a row, 25 times over. Columns are medians over what the network takes
at last (runs 16 to 30).
"""

import sys
from collections.abc import Callable

import numpy as np

from nassearch.networks import Subnet
from nassearch.runtimes.runtime import make_runtime
from nassearch.setting import Setting
from nassearch.space import SearchSpace

SPACES = {"cifar_dense": None, "mobilenet_v3": 128}
RUNS, STEADY, ROUNDS = 30, 15, 25
SHOWN = (1, 2, 3, 4, 6, 8, 10)


def main() -> None:
    networks: dict[str, Callable[[], float]] = {}
    for precision in ("fp32", "int8"):
        runtime = make_runtime(Setting("here", "onnxruntime", precision, 1, 1))
        for name, pixels in SPACES.items():
            space = SearchSpace.load(name)
            if pixels:
                space = SearchSpace.from_dict({**space.to_dict(), "resolution": pixels})
            for title, architecture in (("smallest", space.smallest), ("largest", space.largest)):
                network = Subnet.of(space, architecture).eval()
                networks[f"{name}, {title} | {precision}"] = runtime.load(network).run_ms
    taken: dict[str, list[list[float]]] = {title: [] for title in networks}
    order, titles = np.random.default_rng(0), list(networks)
    for _ in range(ROUNDS):
        for index in order.permutation(len(titles)):
            run = networks[titles[index]]
            taken[titles[index]].append([run() for _ in range(RUNS)])
    columns = " | ".join(f"run {number}" for number in SHOWN)
    lines = [f"| network | precision | ms at last | {columns} |", "|---" * (3 + len(SHOWN)) + "|"]
    for title, rows in taken.items():
        medians = np.median(np.array(rows), axis=0)
        steady = float(np.median(medians[STEADY:]))
        cells = " | ".join(f"{medians[number - 1] / steady:.2f}" for number in SHOWN)
        lines.append(f"| {title} | {steady:.3f} | {cells} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
