# ruff: noqa: T201
"""Imported supernets against once-for-all's own classes: every subnet, in float64, float32, ONNX.

    python experiments/pretrained/equality.py [--subnets 200] [--each N] [--supernets NAME ...]

Nothing is downloaded: every tensor of once-for-all's classes (package `ofa`) is random, the kernel
matrices and the running statistics too. Prints a row of a Markdown table for each supernet; the
differences are the largest of any subnet, over its largest logit.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nassearch.networks.published.recognition import load_into_space, recognise
from nassearch.networks.published.tensor_file import TensorFile
from nassearch.space import SearchSpace
from tests.networks.published import ofa_package as theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subnets", type=int, default=200)
    parser.add_argument("--onnx", type=int, default=10)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[128, 160, 192, 208, 224])
    parser.add_argument(
        "--each", type=int, help="resolutions for each subnet, in turn; default all"
    )
    parser.add_argument("--supernets", nargs="+", default=list(theirs.TENSORS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| supernet | tensors | parameters | subnets | float64 | float32 | ONNX | minutes |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.supernets:
        began = time.perf_counter()
        original = theirs.build(name, seed=1)
        found = recognise(TensorFile(Path(name), original.state_dict()))
        ours = load_into_space(found, SearchSpace.load(name), where=name)
        params = [sum(p.numel() for p in net.parameters()) for net in (original, ours)]
        assert params[0] == params[1], params
        many = theirs.subnets(ours.space, arguments.subnets, seed=4)
        sizes = arguments.resolutions
        single = theirs.compare(
            original, ours, many, sizes, each=arguments.each, in_onnx=arguments.onnx
        )
        double = theirs.compare(original.double(), ours.double(), many, sizes, each=arguments.each)
        minutes = (time.perf_counter() - began) / 60
        worst = [max(item.supernet, item.extracted) for item in (double, single)]
        tensors = f"{len(found.tensors)}/{len(original.state_dict())}"
        print(
            f"| {name} | {tensors} | {params[1]:,} | {single.networks} | {worst[0]:.1e} |"
            f" {worst[1]:.1e} | {single.onnx:.1e} ({arguments.onnx}) | {minutes:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
