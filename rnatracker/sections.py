"""The sections of a run's settings: every key, what it may be, and what it is where nobody says.

Owns the pydantic models of the sections. Must not know torch, mlflow or optuna. Read next: `rnatracker/config.py`,
where settings come from; `configs/default.yaml`, which lists every key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rnatracker import also, site_names
from rnatracker.choices import Device, Format, GroupBy, Keep, Kernel, Labels, Objective, Pooling, Schedule

DEFAULT_SITES = ("Cytosol", "Insoluble", "Membrane", "Nuclear")


class Section(BaseModel):
    """A part of the settings. It is strict: `true` is not 1, a text in quotes is no number, and all keys are known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


FORMER_FORMATS = {"ancestor3": "port3", "ancestor6": "port6"}
"""Formats by the names that they once had, and have in the settings of older runs."""


class DataConfig(Section):
    """Which transcripts, and how they are divided."""

    path: str | None = None
    """File of transcripts with measured fractions."""
    format: Format = "auto"
    """Format of the file; `auto` recognises it by its content."""
    sites: Annotated[tuple[str, ...], Field(min_length=2, strict=False)] | None = None
    """Names of the sites, in the order of the file's values; None: the file's own, else the default four."""
    labels: Labels = "mean"
    """Which replicate to learn, where the file has two."""
    id_column: str | None = None
    """Column of a table that holds the id; None: id, transcript_id or name."""
    sequence_column: str | None = None
    """Column of a table that holds the sequence; None: sequence, seq or cdna."""
    group_column: str | None = None
    """Column of a table whose records are never divided where they share its value; None: group, gene, gene_id or
    gene_name, where there is one."""
    group_by: GroupBy = "group"
    """What is never divided: `group`, the file's groups and equal sequences; `similarity`, similar sequences too."""
    identity: float = Field(0.8, ge=0.5, le=1)
    """Share of identical nucleotides from which two sequences are similar."""
    coverage: float = Field(0.8, ge=0.5, le=1)
    """Share of the shorter of two sequences that must be aligned for it."""
    also: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    """Further data sets that the same trunk is trained on, each `FILE` or `FILE:SITE1,SITE2`; None: none."""
    val: float = Field(0.2, gt=0, lt=1)
    """Share of the transcripts on which a single run is validated."""
    fold: int = Field(0, ge=0)
    """Number of folds of a cross-validation; 0: a single run."""
    inner_val: float = Field(0.1, gt=0, lt=1)
    """Share of a fold's training part on which its best epoch is chosen."""
    split_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the division into folds or training and validation, apart from `train.seed`, so that runs
    with different seeds can be compared."""

    @field_validator("format", mode="before")
    @classmethod
    def _rename(cls, value: object) -> object:
        return FORMER_FORMATS.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.fold == 1:
            raise ValueError("fold: 1 fold leaves nothing to train on; use 2 or more, or 0 for a single run")
        fault = site_names.fault(self.sites or ())
        if fault:
            raise ValueError(f"sites: {fault}; use another name")
        fault = next(filter(None, map(also.fault, self.also or ())), "")
        if fault:
            raise ValueError(f"also: {fault}")
        return self


class EncodingConfig(Section):
    """How a sequence becomes the network's input."""

    max_length: int = Field(4000, ge=1)
    """Nucleotides of a transcript that the network sees; longer ones are cut."""
    full_length: bool = False
    """Nothing is cut: batches are made of transcripts of like length. Needs `model.masked`."""
    keep: Keep = "5p"
    """Which end is kept: the 5' end, the 3' end, or half of each."""


class ModelConfig(Section):
    """Sizes of the network. Every one is a setting."""

    conv1_channels: int = Field(32, ge=1)
    conv2_channels: int = Field(32, ge=1)
    conv1_kernel: int = Field(10, ge=1)
    """Width of the first convolution, in nucleotides."""
    conv2_kernel: int = Field(10, ge=1)
    """Width of the second convolution, in pooled positions."""
    pool: int = Field(3, ge=1)
    """Width and stride of the max pooling after each convolution."""
    dropout: float = Field(0.25, ge=0, lt=1)
    """Dropout after each pooling."""
    rnn_dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout of the recurrent layer's inputs, that is after the second pooling; None: as `dropout`."""
    output_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the pooled states that go to the last layer; the length input is never dropped."""
    dropout_kind: Literal["entry", "channel"] = "entry"
    """What is dropped after the poolings: single entries, or channels of a transcript over all its positions."""
    rnn: Literal["gru", "lstm"] = "gru"
    rnn_hidden: int = Field(32, ge=1)
    """Hidden units of each direction of the recurrent layer."""
    rnn_activation: Literal["relu", "none"] = "relu"
    """What the recurrent layer's outputs pass before the attention: ReLU in the PyTorch port, nothing in
    the original."""
    attention: bool = True
    """False: the last state of each direction goes to the last layer instead."""
    attention_size: int = Field(50, ge=1)
    pooling: Pooling = "attention"
    """How the states along a transcript become one: their mean by attention, their plain mean, the largest of each, or
    the first two side by side."""
    masked: bool = True
    """True: padding is not seen by the recurrent layer and the attention."""
    length_input: bool = False
    """True: the logarithm of the whole transcript's length is one more input of the last layer."""
    codons: bool = False
    """True: the first convolution sees which windows begin at a codon of the longest open reading frame, and which."""
    kernel: Kernel = "auto"
    """What computes the network: fused CPU kernels, plain PyTorch, or what suits the machine. Weights are the same."""

    @property
    def dropouts(self) -> tuple[float, float]:
        """Dropout after the first and after the second pooling."""
        return self.dropout, self.dropout if self.rnn_dropout is None else self.rnn_dropout

    @property
    def attends(self) -> bool:
        """Whether there are attention weights."""
        return self.attention and "attention" in self.pooling

    @model_validator(mode="after")
    def _check_pooling(self) -> ModelConfig:
        if not self.attention and self.pooling != "attention":
            raise ValueError(
                f"pooling: {self.pooling} needs attention: true: without it the last state of each direction is used"
            )
        return self

    @property
    def receptive_field(self) -> int:
        """Nucleotides under one step of the recurrent layer: the shortest input that gives a step."""
        return (self.pool + self.conv2_kernel - 1) * self.pool + self.conv1_kernel - 1


class TrainConfig(Section):
    """How the network is trained."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(1e-3, gt=0)
    """Learning rate."""
    trunk_lr: float = Field(1.0, ge=0)
    """What the learning rate of all but the last layer is multiplied with; only with weights to begin from."""
    freeze: int = Field(0, ge=0)
    """Epochs at the start in which only the last layer is trained; only with weights to begin from."""
    optimizer: Literal["adam", "adamw", "nadam"] = "adam"
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled from the gradient with `adamw`."""
    schedule: Schedule = "constant"
    """How the learning rate changes from step to step."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0."""
    clip: float = Field(0.0, ge=0)
    """Largest norm of a step's gradient; 0: any."""
    ema: float = Field(0.0, ge=0, lt=1)
    """What the average of the weights keeps of itself in each step; it is what is validated and kept. 0: no average."""
    mask: float = Field(0.0, ge=0, lt=1)
    """Share of nucleotides that are hidden in each step."""
    exchange: float = Field(0.0, ge=0, lt=1)
    """Share of nucleotides that are exchanged for random ones in each step."""
    window: int = Field(0, ge=0)
    """Nucleotides of a random stretch that a step sees of longer transcripts; 0: all that is seen at prediction."""
    shift: int = Field(0, ge=0)
    """Most nucleotides that a step leaves out at the start of a transcript."""
    pcc_weight: float = Field(0.0, ge=0)
    """What 1 minus the batch's mean PCC counts in the loss, beside the divergence."""
    calibrate: bool = False
    """True: the last layer is calibrated on the validation part, whenever that is predicted."""
    objective: Objective = "pcc_mean"
    """What the best epoch is chosen by, on the validation part."""
    patience: int = Field(0, ge=0)
    """Stop after this many evaluations without improvement; 0: never."""
    eval_every: int = Field(1, ge=1)
    """Epochs from one evaluation to the next."""
    save_every: int = Field(0, ge=0)
    """Epochs from one numbered checkpoint to the next, beside `best.pt` and `last.pt`; 0: none."""
    also_weight: float = Field(1.0, gt=0)
    """What the loss of the further data sets (`data.also`) is multiplied with."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of initial weights, order of batches and dropout."""
    seeds: int = Field(1, ge=1, le=100)
    """Networks of different seeds that are trained as one model, which predicts their mean; the first has `seed`."""
    device: Device = "auto"
    amp: bool = False
    """Mixed precision (bfloat16) on a GPU."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0: as many as are found to be fastest, one in each of several parallel folds."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.mask + self.exchange >= 1:
            raise ValueError(f"mask {self.mask:g} and exchange {self.exchange:g}: together they must be below 1")
        return self
