"""The one training loop, for every task, on any number of processes."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data import EpochBatches
from ..errors import WhatwhereError
from ..tasks import Batch, Task, in_channels_last
from .batches import Loaded, Shard, loader, mix, stream_loader
from .board import Board
from .folder import RunFolder
from .progress import Bar
from .recipe import Recipe, learning_rate
from .state import State

Row = dict[str, Any]


class NotFinite(WhatwhereError):
    """The loss or the gradient is not finite; ``epoch`` and ``step`` (from 1) and ``images`` say where."""

    def __init__(self, what: str, epoch: int, step: int, images: list[str], kept: str) -> None:
        self.epoch = epoch
        self.step = step
        self.images = images
        shown = ", ".join(images[:8]) + (f" and {len(images) - 8} more" if len(images) > 8 else "")
        super().__init__(
            f"{what} in epoch {epoch}, step {step}, is not finite. The batch: {shown}. {kept} Look at these images, or "
            "train again in another folder with a lower lr, a longer warmup, a smaller clip, or amp='no'"
        )


class Loop:
    """Trains ``state`` on ``task`` until all epochs are done; what is written goes through the main process."""

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        state: State,
        wrapped: tuple[nn.Module, Any],
        accelerator: Any,
        folder: RunFolder,
        board: Board,
        on_epoch: Callable[[Row], None] | None,
    ) -> None:
        self.task = task
        self.recipe = recipe
        self.state = state
        self.model, self.optimizer = wrapped
        self.accelerator = accelerator
        self.folder = folder
        self.board = board
        self.on_epoch = on_epoch
        self.device: torch.device = accelerator.device
        self.main: bool = accelerator.is_main_process
        self.processes: int = accelerator.num_processes
        self.rank: int = accelerator.process_index
        self.parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        self.generator = torch.Generator()
        self.broken: dict[str, str] = {}
        self.metrics: Any = None
        self.scores: list[tuple[list[int], list[float]]] = []

    def run(self, bar: Bar) -> None:
        """Train from where the state is to the end of the last epoch."""
        while self.state.counters.epoch < self.recipe.epochs:
            self._epoch(bar)

    def _epoch(self, bar: Bar) -> None:
        counters = self.state.counters
        epoch = counters.epoch
        per_epoch = counters.steps // self.recipe.epochs
        counters.value = None
        self.model.train()
        clock = time.perf_counter()
        for loaded in self._batches(epoch, per_epoch, done=counters.step - epoch * per_epoch):
            values, images = self._step(loaded, epoch, counters.step)
            counters.step += 1
            now = time.perf_counter()
            counters.seconds += now - clock
            counters.epoch_seconds += now - clock
            clock = now
            ends = counters.step == (epoch + 1) * per_epoch
            if images:
                self._count(values, images)
                self._log(values, epoch)
                shown = {key: value for key, value in values.items() if key != "gradient_norm"}
                bar.step(epoch + 1, counters.step, shown, int(images))
            if self.recipe.save_every and counters.step % self.recipe.save_every == 0 and not ends:
                self._save()
                clock = time.perf_counter()
        self._finish_epoch(bar)

    def _batches(self, epoch: int, total: int, *, done: int) -> Iterator[Loaded]:
        """Yield this process's part of the batches of an epoch, of ``total``, from the first that is not done."""
        dataset, seed = self.task.train_set, self.recipe.seed
        size = min(self.recipe.batch_size, len(dataset))
        if (stream := getattr(dataset, "stream", None)) is None:
            lengths = getattr(dataset, "lengths", None)
            order = EpochBatches(
                len(dataset), size, seed=seed, epoch=epoch, start=done, drop_last=True, lengths=lengths
            )
            return self._load(dataset, order)
        part = size // self.processes
        epochs_seed = mix("stream", seed, epoch)
        batches = stream(epochs_seed, batch_size=part, batches=total, rank=self.rank, processes=self.processes)
        return stream_loader(batches, self.recipe.workers, pin=self.device.type == "cuda")

    def _step(self, loaded: Loaded, epoch: int, step: int) -> tuple[dict[str, float], float]:
        """Do one step; return the means over the whole batch, and how many images it had (0: the step was skipped)."""
        sizes = self._counts(loaded.size)
        if loaded.batch is None or min(sizes) == 0:
            return {}, 0.0
        recipe = self.recipe
        self._seed(mix("step", recipe.seed, epoch, step, self.rank))
        self.generator.manual_seed(mix("augment", recipe.seed, epoch, step, self.rank))
        rate = learning_rate(recipe, step, self.state.counters.steps)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        batch = self._prepare(loaded.batch, self.generator)
        with self.accelerator.autocast():
            loss, logs = self.task.loss(self.model, batch)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.parameters, recipe.clip or math.inf)
        values = self._means({"loss": loss, **logs}, norm, loaded.size)
        if not math.isfinite(values["loss"]):
            raise self._not_finite("the loss", loaded.batch, epoch, step)
        if self.state.scaler is None and not math.isfinite(values["gradient_norm"]):
            raise self._not_finite("the gradient", loaded.batch, epoch, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.state.ema is not None:
            self.state.ema.update_parameters(self.state.model)
        return values, float(sum(sizes))

    def _seed(self, seed: int) -> None:
        """Seed what dropout and the like draw from. On the CPU without torch.manual_seed's cost of 0.3 ms."""
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _prepare(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        batch = self.task.prepare(batch, self.device, generator)
        return in_channels_last(batch) if self.recipe.channels_last else batch

    def _means(self, logs: Mapping[str, Tensor], norm: Tensor, images: int) -> dict[str, float]:
        """Bring loss and logs to the CPU in one go; over several processes, weighted by their images."""
        row = torch.stack([value.detach().float() for value in logs.values()] + [norm.detach().float()])
        if self.processes > 1:
            weight = torch.tensor([float(images)], device=self.device)
            total = self.accelerator.reduce(torch.cat([row[:-1] * images, weight]), reduction="sum")
            row = torch.cat([total[:-1] / total[-1], row[-1:]])
        return dict(zip([*logs, "gradient_norm"], row.tolist(), strict=True))

    def _not_finite(self, what: str, batch: Batch, epoch: int, step: int) -> NotFinite:
        indices = self._gather(batch["index"].tolist())
        names = [self.task.train_set.name(int(index)) for index in indices]
        step_in_epoch = step - epoch * (self.state.counters.steps // self.recipe.epochs)
        kept = (
            f"{self.folder.last} is from before it." if self.folder.last.exists() else "No checkpoint was written yet."
        )
        return NotFinite(what, epoch + 1, step_in_epoch + 1, names, kept)

    def _count(self, values: Mapping[str, float], images: float) -> None:
        counters = self.state.counters
        counters.images += images
        for key, value in values.items():
            counters.sums[key] = counters.sums.get(key, 0.0) + value * images

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        step = self.state.counters.step
        if self.main and self.recipe.log_every and step % self.recipe.log_every == 0:
            rate = learning_rate(self.recipe, step - 1, self.state.counters.steps)
            row = {"kind": "step", "epoch": epoch + 1, "step": step, "lr": rate}
            self._write({**row, **{f"train_{key}": value for key, value in values.items()}})

    def _finish_epoch(self, bar: Bar) -> None:
        counters = self.state.counters
        clock = time.perf_counter()
        measured = self.evaluate()
        headline = self.task.headline
        if headline.key not in measured:
            raise WhatwhereError(
                f"the task {self.task.name!r} has the headline {headline.key!r}, but measures {', '.join(measured)}"
            )
        counters.value = measured[headline.key]
        counters.epoch += 1
        if counters.epoch == self.recipe.epochs:
            self._keep_scores()
        new_best = self._is_better(counters.value)
        if new_best:
            counters.best, counters.best_epoch = counters.value, counters.epoch
        rate = learning_rate(self.recipe, counters.step - 1, counters.steps)
        seen = counters.images
        averages = {f"train_{key}": value / seen for key, value in counters.sums.items()} if seen else {}
        speed = seen / counters.epoch_seconds if counters.epoch_seconds else 0.0
        counters.seconds += time.perf_counter() - clock
        row: Row = {"kind": "epoch", "epoch": counters.epoch, "step": counters.step, "lr": rate, "train_loss": math.nan}
        row |= {**averages, **{f"test_{key}": value for key, value in measured.items()}, "best": new_best}
        row |= {"images_per_second": speed, "seconds": counters.seconds}
        counters.images, counters.epoch_seconds, counters.sums = 0.0, 0.0, {}
        if self.main:
            self._write(row)
            if new_best:
                names = {"task": self.task.name, "metric": headline.key}
                where = {"epoch": counters.epoch, "step": counters.step, "value": counters.value}
                self.state.save_measured(self.folder.best, **names, **where)
                self.task.write_results(self.metrics, self.folder.path)
            bar.epoch(row)
        self._save()
        if self.main and self.on_epoch is not None:
            self.on_epoch(row)

    def evaluate(self) -> dict[str, float]:
        """Measure on the whole test set, each image once, over all processes."""
        model = self.state.measured
        self._agree(model)
        was_training = model.training
        model.eval()
        self.metrics = metrics = self.task.metrics().to(self.device)
        found = 0
        self.scores = []
        dataset = self.task.test_set
        with torch.no_grad(), self.accelerator.autocast():
            for loaded in self._load(dataset, EpochBatches(len(dataset), self.recipe.batch_size, shuffle=False)):
                if loaded.batch is not None and loaded.size:
                    scores = self.task.score(model, self._prepare(loaded.batch, None), metrics)
                    if scores is not None:
                        self.scores.append((loaded.batch["index"].tolist(), scores.tolist()))
                    found += loaded.size
        if sum(self._counts(found)) == 0:
            raise WhatwhereError("the test set has no image that can be read")
        measured = {key: float(value) for key, value in metrics.compute().items()}
        model.train(was_training)
        return measured

    def _keep_scores(self) -> None:
        """Write the score of every test image, where the task gives them, in the order of the images."""
        indices = self._gather([index for some, _ in self.scores for index in some])
        scores = self._gather([score for _, some in self.scores for score in some])
        if self.main and scores:
            self.folder.write_scores(indices, scores)

    def _load(self, dataset: Any, order: Any) -> Iterator[Loaded]:
        shard = Shard(order, self.rank, self.processes)
        for loaded in loader(dataset, shard, self.recipe.workers, pin=self.device.type == "cuda"):
            for item in loaded.broken:
                self.broken[str(item.path)] = str(item.reason)
            yield loaded

    def _agree(self, model: nn.Module) -> None:
        """Give every process the main process's buffers: BatchNorm's differ, as each saw its own images."""
        if self.processes > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _is_better(self, value: float) -> bool:
        best = self.state.counters.best
        if best is None or math.isnan(best):
            return True
        return self.task.headline.is_better(value, than=best)

    def _write(self, row: Row) -> None:
        self.folder.append(row)
        self.board.add(row)

    def _save(self) -> None:
        if self.main:
            self.board.flush()
            self.state.save(self.folder.last)

    def _counts(self, count: int) -> list[int]:
        """Return every process's count."""
        if self.processes == 1:
            return [count]
        return [int(n) for n in self.accelerator.gather(torch.tensor([count], device=self.device)).tolist()]

    def _gather(self, values: list[Any]) -> list[Any]:
        """Return every process's values, in the order of the processes."""
        if self.processes == 1:
            return values
        parts: list[Any] = [None] * self.processes
        torch.distributed.all_gather_object(parts, values)
        return [value for part in parts for value in part]
