"""One part in a process of its own: a crash or a hang costs no other part. A JSON line a point."""

import argparse
import importlib
import json
import os
import time

import torch

from benchmarks.gpu.setting import Setting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--device", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo")  # one process: there may be no other network
    device = torch.device("cuda", 0) if arguments.device == "cuda" else torch.device("cpu")
    setting = Setting(device, arguments.small, time.monotonic() + arguments.seconds)
    points = importlib.import_module(f"benchmarks.gpu.{arguments.name}").points
    for point in points(setting):
        print(json.dumps(point), flush=True)


if __name__ == "__main__":
    main()
