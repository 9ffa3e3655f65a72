"""Long work: how time and memory grow with the size of a search, of a journal, of an image folder.

Each size is measured in a process of its own; where both grow with the size or less, nothing is
kept or read more often than it must be.
"""

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from workplace import copy_of

import nassearch as ns
from nassearch import files
from nassearch.provenance import Estimate, Provenance
from nassearch.search.candidate import Candidate
from nassearch.search.journal import load_latest

PARTS = 3  # sizes: a quarter, a half, the whole


def trials(count: int, workplace: Path) -> Iterator[tuple[int, Callable[[], dict[str, object]]]]:
    kinds = (
        ("a search and its report, candidates", _search, 5_000),
        ("a journal, lines", _journal, 100_000),
        ("an image folder, files", _folder, 200_000),
    )
    for number in range(min(count, len(kinds) * PARTS)):
        name, work, whole = kinds[number // PARTS]
        size = whole >> (PARTS - 1 - number % PARTS)
        yield number, lambda n=name, w=work, s=size: _measured(n, w, s, workplace)


Work = Callable[[int, Path], Callable[[], object]]


def _measured(name: str, work: Work, size: int, workplace: Path) -> dict[str, object]:
    """Seconds and additional peak memory of some work, in a forked child."""
    place = copy_of(workplace, workplace.with_name("growth"))
    answer = place / "measured.json"
    child = os.fork()
    if child == 0:
        try:
            start = work(size, place)
            before = resource.getrusage(resource.RUSAGE_SELF)
            began = time.perf_counter()
            start()
            after = resource.getrusage(resource.RUSAGE_SELF)
            found = {
                "seconds": time.perf_counter() - began,
                "work": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "mebibytes": (after.ru_maxrss - before.ru_maxrss) / 1024,
            }
            answer.write_text(json.dumps(found))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    fault = None if answer.exists() else "it ended without an answer"
    found = json.loads(answer.read_text()) if fault is None else {}
    return {"case": name, "size": size, **found, "fault": fault}


def _search(size: int, place: Path) -> Callable[[], object]:
    os.chdir(place)

    def work() -> None:
        ns.search_subnets(
            "runs/tiny",
            devices=["box"],
            budgets=["80%"],
            objectives=["zero_cost", "latency"],
            algorithm="random",
            trials=size,
        )
        ns.write_report("runs/tiny", out="page.html")

    return work


def _journal(size: int, place: Path) -> Callable[[], object]:
    (path,) = (place / "runs/tiny/search").glob("*/search.json")
    space = ns.load_space("cifar_small")
    settings = json.loads(path.read_text()) | {"space": space.fingerprint}
    path.write_text(json.dumps(settings))
    rng = np.random.default_rng(0)
    estimate = Estimate(0.5, Provenance("evaluated", split="val", num_images=1000))
    with (path.parent / "candidates.jsonl").open("w") as file:
        for architecture in space.decode_many(space.sample_genes(rng, size)):
            candidate = Candidate(architecture, {"accuracy": estimate, "latency": estimate})
            file.write(json.dumps(candidate.to_record(space)) + "\n")
    return lambda: load_latest(place / "runs/tiny", space=space)


def _folder(size: int, place: Path) -> Callable[[], object]:
    import torch
    from torchvision.io import encode_png  # type: ignore[import-untyped]

    rng = np.random.default_rng(0)
    png = bytes(
        encode_png(torch.from_numpy(rng.integers(0, 255, (3, 8, 8), dtype=np.uint8))).numpy()
    )
    for split, share in (("train", 0.9), ("test", 0.1)):
        for label in range(10):
            folder = files.make_directory(place / "photos" / split / f"class{label}")
            for number in range(round(size * share / 10)):
                (folder / f"{number:06d}.png").write_bytes(png)

    def work() -> None:
        data = ns.load_data(f"imagefolder:{place / 'photos'}")
        assert len(data.train) and data.fingerprint  # every file was listed, and some were read

    return work
