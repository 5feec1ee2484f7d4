"""Whether the fused kernels are faster than plain PyTorch at every size, since `model.kernel: auto` takes them at all.

    python benchmarks/sizes.py [--batch 8 32] [--threads 1] [--repeats 3] [--set model.dropout_kind=channel]

All but the sizes is as in `configs/default.yaml`, or as `--set` says. Prints, for channels 16 to 128 and hidden units
16 to 256, GRU and LSTM, the ratio of PyTorch's time to the kernels', in training and in inference: above 1 the kernels
are faster. Times are interleaved in one process, medians; CPU seconds with one thread, which other processes on the
machine disturb little, else wall seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from rnatracker import config
from rnatracker.config import ModelConfig
from rnatracker.data.features.reading_frames import FRAME_SHIFT
from rnatracker.errors import ConfigError
from rnatracker.model.network import RNATracker

_CHANNELS = (16, 32, 64, 128)
_HIDDEN = (16, 32, 64, 128, 256)
_LENGTH = 4000


def _train(network: RNATracker, codes: Tensor, lengths: Tensor) -> None:
    network.train().zero_grad()
    network(codes, lengths, lengths).square().sum().backward()


def _predict(network: RNATracker, codes: Tensor, lengths: Tensor) -> None:
    with torch.inference_mode():
        network.eval()(codes, lengths, lengths)


def ratios(model: ModelConfig, batch_size: int, repeats: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Return PyTorch's time over the kernels', in training and in inference."""
    codes = torch.randint(1, 5, (batch_size, _LENGTH), dtype=torch.uint8)
    places = torch.arange(_LENGTH, dtype=torch.uint8) % 3 + 1
    codes |= places << FRAME_SHIFT  # one reading frame from end to end: the most work for a network with codons
    lengths = torch.full((batch_size,), _LENGTH)
    networks = {kernel: RNATracker(model.model_copy(update={"kernel": kernel}), 4) for kernel in ("fused", "torch")}
    results = []
    for action in (_train, _predict):
        seconds: dict[str, list[float]] = {"fused": [], "torch": []}
        for number in range(repeats + 1):
            for kernel, network in networks.items():
                began = clock()
                action(network, codes, lengths)
                if number or not repeats:
                    seconds[kernel].append(clock() - began)
        results.append(statistics.median(seconds["torch"]) / statistics.median(seconds["fused"]))
    return results[0], results[1]


def settings_of(sets: list[str]) -> ModelConfig:
    """Return the network's settings where the table doesn't vary them.

    Raises:
        ConfigError: if one is wrong, or is none of the network's.
    """
    strange = [each for each in sets if not each.startswith("model.")]
    if strange:
        raise ConfigError(f"--set {strange[0]}: the network alone is timed, and that is none of its settings")
    return config.assemble(None, {}, {}, sets).model


def main() -> None:
    """Print a table for each kind of recurrent layer and batch size, and the lowest ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rnn", nargs="+", default=["gru", "lstm"])
    parser.add_argument("--unmasked", action="store_true", help="PyTorch then runs its fastest recurrent layers")
    parser.add_argument("--channels", type=int, nargs="+", default=_CHANNELS)
    parser.add_argument("--hidden", type=int, nargs="+", default=_HIDDEN)
    parser.add_argument("--set", dest="sets", metavar="model.KEY=VALUE", action="append", default=[])
    options = parser.parse_args()
    try:
        base = settings_of(options.sets)
    except ConfigError as error:
        parser.error(str(error))
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    lowest = float("inf")
    for rnn in options.rnn:
        for batch_size in options.batch:
            load = os.getloadavg()[0]
            print(f"\n{rnn}, batch {batch_size}, threads {options.threads}, load {load:.1f}: training / inference")
            print("channels " + "".join(f"{f'hidden {hidden}':>14}" for hidden in options.hidden))
            for channels in options.channels:
                row = []
                for hidden in options.hidden:
                    sizes = {"conv1_channels": channels, "conv2_channels": channels, "rnn_hidden": hidden}
                    changes = sizes | {"rnn": rnn, "masked": not options.unmasked}
                    row.append(ratios(base.model_copy(update=changes), batch_size, options.repeats, clock))
                    lowest = min(lowest, *row[-1])
                print(f"{channels:8} " + "".join(f"{f'{a:.1f} / {b:.1f}':>14}" for a, b in row), flush=True)
    print(f"\nlowest ratio: {lowest:.2f}")


if __name__ == "__main__":
    main()
