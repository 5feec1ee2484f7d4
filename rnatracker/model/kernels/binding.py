"""The kernels as Python functions: the library loaded, arguments checked and passed.

Owns the C interface of `kernels.c`, whose structures it mirrors, and the workspace that its calls share. Must not know
autograd. Read next: `functions.py`, which makes them differentiable.

A pointer says nothing of what it points to, so that every tensor is checked here before its address is passed.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_uint32, c_void_p

import torch
from torch import Tensor

from rnatracker.config import ModelConfig
from rnatracker.model.kernels import build
from rnatracker.model.kernels.build import UnavailableError

MAX_POOL = 254
"""The position that wins a pool is kept in one byte, of which one value means none."""

_PLACES = ", and 8, 16 or 24 more for the place in a codon"

_Pair = c_void_p * 2
_Rates = c_float * 2


class _Sizes(Structure):
    _fields_ = (
        ("conv1_channels", c_int64),
        ("conv2_channels", c_int64),
        ("conv1_kernel", c_int64),
        ("conv2_kernel", c_int64),
        ("pool", c_int64),
        ("hidden", c_int64),
        ("attention", c_int64),
        ("lstm", c_int64),
        ("relu", c_int64),
        ("masked", c_int64),
        ("codons", c_int64),
    )


class _Batch(Structure):
    _fields_ = (
        ("sequences", c_int64),
        ("width", c_int64),
        ("codes", c_void_p),
        ("lengths", c_void_p),
        ("threads", c_int64),
        ("keep", c_int64),
        ("seed", c_uint32),
        ("dropout", _Rates),
        ("whole_channels", c_uint32),
    )


class _Tensors(Structure):
    _fields_ = (
        ("conv1", c_void_p),
        ("conv2", c_void_p),
        ("w_ih", _Pair),
        ("w_hh", _Pair),
        ("b_ih", _Pair),
        ("b_hh", _Pair),
        ("attention_w", c_void_p),
        ("attention_b", c_void_p),
        ("attention_v", c_void_p),
        ("codon_bias", c_void_p),
    )


@functools.cache
def _load() -> ctypes.CDLL | str:
    """Return the library, or why there is none. It is looked for once in a process."""
    try:
        library = ctypes.CDLL(str(build.library()))
    except (UnavailableError, OSError) as error:
        return str(error)
    sizes, batch, tensors = POINTER(_Sizes), POINTER(_Batch), POINTER(_Tensors)
    library.rnatracker_workspace.argtypes = (sizes, batch)
    library.rnatracker_workspace.restype = c_int64
    library.rnatracker_forward.argtypes = (sizes, batch, tensors, c_void_p, c_void_p, c_void_p, c_int64)
    library.rnatracker_forward.restype = c_int
    library.rnatracker_backward.argtypes = (sizes, batch, tensors, c_void_p, c_void_p, tensors)
    library.rnatracker_backward.restype = None
    return library


def why_not() -> str | None:
    """Return why the kernels can't be used on this machine; None if they can."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None


def _library() -> ctypes.CDLL:
    loaded = _load()
    if isinstance(loaded, str):
        raise UnavailableError(loaded)
    return loaded


class Workspaces:
    """Lends memory to calls and takes it back: fresh memory would cost page faults in every step.

    One piece is kept, the largest that came back; a call that finds none, or too small a one, gets a new one.
    """

    def __init__(self) -> None:
        self._kept: Tensor | None = None
        self._lock = threading.Lock()

    def take(self, size: int) -> Tensor:
        """Return at least so many bytes, (n,) uint8, aligned to 64 bytes."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None and len(kept) >= size:
            return kept
        return torch.empty(size + size // 8, dtype=torch.uint8)  # a little more: the next batch may be a little larger

    def give(self, piece: Tensor) -> None:
        """Take a piece back."""
        with self._lock:
            if self._kept is None or len(self._kept) < len(piece):
                self._kept = piece


WORKSPACES = Workspaces()


class Call:
    """One batch's way through the kernels: forward once, and backward once where that was asked for.

    Args:
        config: sizes of the network.
        codes: (B, L) uint8, contiguous, on the CPU; padded as `RNATracker.forward` says.
        lengths: (B,) int64, contiguous, on the CPU; at most L.
        weights: conv1 and conv2; weight_ih, weight_hh, bias_ih, bias_hh of each direction; where there is
            attention, its layer's weight and bias and the scores' weight; where the reading frame is seen, its
            bias. float32, contiguous, on the CPU.
        keep: whether `backward` will be called.
        dropout: its probability after the first and after the second pooling; 0 in evaluation.
        seed: of dropout, below 2**32.

    Raises:
        ValueError: if a tensor is not as described.
        UnavailableError: if there are no kernels on this machine.
    """

    def __init__(
        self,
        config: ModelConfig,
        codes: Tensor,
        lengths: Tensor,
        weights: Sequence[Tensor],
        *,
        keep: bool,
        dropout: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ) -> None:
        self._workspace: Tensor | None = None
        self._library = _library()
        _check_input(config, codes, lengths)
        self._shapes = shapes(config)
        _check_weights(weights, self._shapes)
        self._config, self._input = config, (codes, lengths)
        self._sizes = _sizes(config)
        self._batch = _Batch(
            *codes.shape,
            codes.data_ptr(),
            lengths.data_ptr(),
            torch.get_num_threads(),
            keep,
            seed,
            _Rates(*dropout),
            config.dropout_kind == "channel",
        )
        self._weights = _pointers(weights)
        self._workspace = WORKSPACES.take(self._library.rnatracker_workspace(self._sizes, self._batch))

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Give the workspace back; `backward` is impossible afterwards."""
        workspace, self._workspace = self._workspace, None
        if workspace is not None:
            WORKSPACES.give(workspace)

    def forward(self, alpha_width: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return pooled states, (B, 2H), and attention weights, (B, alpha_width), if that is not 0.

        Raises:
            ValueError: if a code is none of `rnatracker/data/encoding.py`.
        """
        codes, _ = self._input
        pooled = torch.empty(len(codes), 2 * self._config.rnn_hidden, dtype=torch.float32)
        alpha = torch.empty(len(codes), alpha_width, dtype=torch.float32) if alpha_width else None
        known = self._library.rnatracker_forward(
            self._sizes,
            self._batch,
            self._weights,
            self._memory().data_ptr(),
            pooled.data_ptr(),
            None if alpha is None else alpha.data_ptr(),
            alpha_width,
        )
        if not known:
            places = _PLACES if self._config.codons else ""
            raise ValueError(f"codes: expected 0 to 5{places}, got {int(codes.max())}")
        return pooled, alpha

    def backward(self, d_pooled: Tensor) -> list[Tensor]:
        """Return the gradients of the weights, from that of the pooled states, (B, 2H) float32.

        Raises:
            ValueError: if `d_pooled` is not as described.
            RuntimeError: if it was called before, or the call was made without `keep`.
        """
        _check("d_pooled", d_pooled, (len(self._input[0]), 2 * self._config.rnn_hidden), torch.float32)
        if not self._batch.keep:
            raise RuntimeError("this forward pass kept nothing for a backward pass")
        gradients = [torch.empty(shape, dtype=torch.float32) for shape in self._shapes.values()]
        self._library.rnatracker_backward(
            self._sizes,
            self._batch,
            self._weights,
            self._memory().data_ptr(),
            d_pooled.data_ptr(),
            _pointers(gradients),
        )
        self.release()
        return gradients

    def _memory(self) -> Tensor:
        if self._workspace is None:
            raise RuntimeError("backward was called twice: the kernels keep a forward pass for one backward pass only")
        return self._workspace


def workspace_bytes(config: ModelConfig, n_sequences: int, length: int) -> int:
    """Return how much memory a training step of so many sequences, each of `length` nucleotides, takes.

    Raises:
        UnavailableError: if there are no kernels on this machine.
    """
    lengths = torch.full((n_sequences,), length)
    batch = _Batch(n_sequences, length, None, lengths.data_ptr(), torch.get_num_threads(), True)
    needed = int(_library().rnatracker_workspace(_sizes(config), batch))
    return needed + needed // 8  # as `Workspaces.take` does


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the weights that the kernels take, in their order: names as in `RNATracker`, and shapes."""
    hidden, gates = config.rnn_hidden, 3 if config.rnn == "gru" else 4
    named: dict[str, tuple[int, ...]] = {
        "conv1.weight": (config.conv1_channels, 4, config.conv1_kernel),
        "conv2.weight": (config.conv2_channels, config.conv1_channels, config.conv2_kernel),
    }
    for direction in ("", "_reverse"):
        named[f"rnn.weight_ih_l0{direction}"] = (gates * hidden, config.conv2_channels)
        named[f"rnn.weight_hh_l0{direction}"] = (gates * hidden, hidden)
        named[f"rnn.bias_ih_l0{direction}"] = (gates * hidden,)
        named[f"rnn.bias_hh_l0{direction}"] = (gates * hidden,)
    if config.attention:
        named["attention_hidden.weight"] = (config.attention_size, 2 * hidden)
        named["attention_hidden.bias"] = (config.attention_size,)
        named["attention_score.weight"] = (1, config.attention_size)
    if config.codons:
        named["codon_bias"] = (66, config.conv1_channels)
    return named


def _sizes(config: ModelConfig) -> _Sizes:
    return _Sizes(
        config.conv1_channels,
        config.conv2_channels,
        config.conv1_kernel,
        config.conv2_kernel,
        config.pool,
        config.rnn_hidden,
        config.attention_size if config.attention else 0,
        config.rnn == "lstm",
        config.rnn_activation == "relu",
        config.masked,
        config.codons,
    )


def _pointers(tensors: Sequence[Tensor]) -> _Tensors:
    at = [tensor.data_ptr() for tensor in tensors]
    pairs = [_Pair(at[2 + i], at[6 + i]) for i in range(4)]
    attention, frame = at[10:13] if len(at) >= 13 else (None, None, None), at[-1] if len(at) in (11, 14) else None
    return _Tensors(at[0], at[1], *pairs, *attention, frame)


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device.type != "cpu" or not tensor.is_contiguous():
        layout = "" if tensor.is_contiguous() else ", not contiguous"
        raise ValueError(
            f"{name}: expected {shape} {dtype} on the CPU, contiguous, "
            f"got {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}{layout}"
        )


def _check_input(config: ModelConfig, codes: Tensor, lengths: Tensor) -> None:
    if codes.ndim != 2 or not len(codes):
        raise ValueError(f"codes: expected (B, L) with B > 0, got {tuple(codes.shape)}")
    if config.pool > MAX_POOL:
        raise ValueError(f"model.pool: the kernels take at most {MAX_POOL}, got {config.pool}")
    _check("codes", codes, tuple(codes.shape), torch.uint8)
    _check("lengths", lengths, (len(codes),), torch.int64)
    shortest, longest = (int(value) for value in lengths.aminmax())
    if shortest < 0 or longest > codes.shape[1]:
        raise ValueError(
            f"lengths: expected 0 to {codes.shape[1]}, the width of the codes, got {shortest} to {longest}"
        )


def _check_weights(weights: Sequence[Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    if len(weights) != len(expected):
        raise ValueError(f"weights: expected {len(expected)} tensors ({', '.join(expected)}), got {len(weights)}")
    for tensor, (name, shape) in zip(weights, expected.items(), strict=True):
        _check(name, tensor, shape, torch.float32)
