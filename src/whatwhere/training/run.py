"""``train``: set everything up, go on from where a run was, run the loop, clean up."""

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import WhatwhereError, need
from ..files import write_text
from ..imports import named
from ..tables import counted
from ..tasks import Task, plain
from .board import Board
from .checkpoint import read_info
from .folder import RunFolder
from .loop import Loop, Row
from .machine import command, kind_of_machine, versions
from .progress import Bar
from .recipe import Recipe, build_optimizer
from .result import Result, result_of
from .state import Counters, State, average

SHOWN = 30
"""Problems of the annotations that are printed at the end of a run."""


def train(
    task: Task,
    recipe: Recipe | None = None,
    folder: str | os.PathLike[str] = "runs/run",
    *,
    resume: bool = False,
    progress: bool = True,
    on_epoch: Callable[[Row], None] | None = None,
) -> Result:
    """Train a task's network and keep everything about it in ``folder``.

    The folder gets ``config.json`` (which alone reproduces the run), ``metrics.jsonl``, ``tensorboard/``,
    ``last.safetensors`` (the whole state, to go on from) and ``best.safetensors`` (weights only). After a kill at any
    moment, ``resume=True`` goes on; on the CPU it ends in the same weights, bit for bit, as a run that was never
    killed. On an empty folder ``resume=True`` starts; on a finished run it returns the result at once. A run whose
    images are streamed goes on from the end of its last whole epoch.

    Under ``accelerate launch`` or ``torchrun`` the same call trains on many devices; a batch is then shared by all
    processes, and the main process writes.

    Args:
        task: what to learn, from :func:`whatwhere.tasks.create`.
        recipe: how; by default ``Recipe()`` with what the task changes in it.
        folder: where to keep the run.
        resume: go on with the run in ``folder``.
        progress: show a progress bar and a line an epoch.
        on_epoch: called in the main process with each epoch's row, after its checkpoint is on the disk.

    Example:
        >>> import tempfile
        >>> from whatwhere.tasks import create
        >>> data = {"data": "scenes:size=20:train=20:test=20"}
        >>> task = create("classify", {"data": data, "model": {"attention": "cbam"}})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(task, Recipe(epochs=2), folder, progress=False)
        >>> len(result.rows), result.last == result.headline[-1]
        (2, True)

    Raises:
        WhatwhereError: the folder holds a run (and ``resume`` is off) or another run, the recipe cannot run on this
            machine, or there is nothing to train on; ``save_every`` with images that are streamed.
        NotFinite: the loss or the gradient was not finite; the last checkpoint is from before it.
        DamagedCheckpoint: ``last.safetensors`` cannot be read whole.
    """
    recipe = Recipe(**task.recipe) if recipe is None else recipe
    run_folder = RunFolder(folder)
    description = describe(task, recipe)
    run_folder.check(description, resume=resume)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # no process writes before all have looked
    if run_folder.last.exists():
        info = read_info(run_folder.last)
        if info["epoch"] >= recipe.epochs:
            return result_of(run_folder, task.headline.key, info, [])
    if recipe.save_every and getattr(task.train_set, "stream", None) is not None:
        raise WhatwhereError(
            f"save_every={recipe.save_every}: images that are streamed cannot be taken up in the middle of an epoch: "
            "give save_every=0 (a checkpoint at the end of each epoch), or read them by index (wds:DIR:stream=false)"
        )
    with torch.random.fork_rng(devices=[]):  # before there is a folder: what cannot be built leaves nothing behind
        model = task.build(recipe.seed, pretrained=not run_folder.last.exists())
    with ExitStack() as stack:
        stack.enter_context(_threads(recipe.threads))
        accelerator = _accelerator(recipe)
        stack.enter_context(_random_state(accelerator.device))
        if accelerator.is_main_process:
            stack.enter_context(run_folder.lock())
            run_folder.write_config({**description, "processes": accelerator.num_processes})
            run_folder.add_machine(kind_of_machine(accelerator.device))
        accelerator.wait_for_everyone()
        state, wrapped = _set_up(task, model, recipe, accelerator, run_folder)
        done = state.counters.step
        if accelerator.is_main_process:
            run_folder.cut(done)
        board = Board(run_folder.tensorboard if accelerator.is_main_process else None, after=done)
        stack.callback(board.close)
        shown = progress and accelerator.is_main_process
        bar = Bar(task.headline, epochs=recipe.epochs, steps=state.counters.steps, done=done, shown=shown)
        stack.enter_context(bar)
        if resume:
            bar.say(f"going on in {run_folder.path} after step {done} of {state.counters.steps}")
        loop = Loop(task, recipe, state, wrapped, accelerator, run_folder, board, on_epoch)
        loop.run(bar)
        accelerator.wait_for_everyone()
        broken = [f"{path}: {reason}" for path, reason in _all_broken(task, loop).items()]
        if broken:
            bar.say(f"{counted(len(broken), 'image')} could not be read, left out:\n  " + "\n  ".join(broken))
        problems = [str(one) for part in (task.train_set, task.test_set) for one in getattr(part, "problems", ())]
        if problems:
            bar.say(_list_problems(problems, run_folder))
        return result_of(run_folder, task.headline.key, {**vars(state.counters)}, broken)


def describe(task: Task, recipe: Recipe) -> dict[str, Any]:
    """Return what ``config.json`` holds (and the number of processes): all resolved, versions, and the command."""
    return {
        "task": task.name,
        "config": plain(task.config),
        "recipe": plain(recipe),
        "versions": versions(),
        "command": command(),
        "imports": list(named()),
    }


def _set_up(
    task: Task, model: nn.Module, recipe: Recipe, accelerator: Any, run_folder: RunFolder
) -> tuple[State, tuple[Any, Any]]:
    images = len(task.train_set)
    size = min(recipe.batch_size, images)
    if images == 0:
        raise WhatwhereError("the training set has no images")
    if size % accelerator.num_processes:
        raise WhatwhereError(
            f"a batch of {size} images cannot be shared evenly by {accelerator.num_processes} processes: "
            "choose a batch_size that is a multiple of their number"
        )
    model = model.to(accelerator.device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    ema = average(model, recipe.ema) if recipe.ema else None
    if recipe.compile:
        model.compile()
    optimizer = build_optimizer(recipe, model)
    counters = Counters(steps=images // size * recipe.epochs)
    state = State(model, ema, optimizer, accelerator.scaler, counters)
    if run_folder.last.exists():
        state.load(run_folder.last)
    return state, accelerator.prepare(model, optimizer)


def _accelerator(recipe: Recipe) -> Any:
    accelerate = need("accelerate", extra="train")
    from accelerate.state import AcceleratorState, DistributedType

    # another run in this process may have had another precision or device
    joined = torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not joined)
    try:
        accelerator = accelerate.Accelerator(mixed_precision=recipe.amp, cpu=recipe.device == "cpu")
    except ValueError as error:
        raise WhatwhereError(f"amp={recipe.amp!r} and device={recipe.device!r} do not run here: {error}") from error
    if torch.distributed.is_initialized() and not joined:
        atexit.register(_leave)
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise WhatwhereError(
            f"{accelerator.distributed_type.value} splits the weights over processes, which run folders cannot keep: "
            "launch with plain data parallelism (accelerate launch --multi_gpu, or torchrun)"
        )
    if recipe.amp == "fp16" and accelerator.device.type == "cpu":  # Accelerate would train in float32, silently
        raise WhatwhereError("amp='fp16' needs a GPU, and this run is on the CPU: use amp='no' or amp='bf16'")
    return accelerator


def _leave() -> None:
    """Close the connection to the other processes, which torch warns about otherwise, and may abort on, at the end."""
    gc.collect()  # the wrapped model lies in cycles, and its threads must end before the interpreter does
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _list_problems(problems: list[str], run_folder: RunFolder) -> str:
    """Write all problems of the annotations into the run's folder, and return the first of them in words."""
    write_text(run_folder.path / "problems.txt", "\n".join(problems) + "\n")
    more = f"\n  and {len(problems) - SHOWN} more: {run_folder.path / 'problems.txt'}" if len(problems) > SHOWN else ""
    return f"{len(problems)} problems in the annotations:\n  " + "\n  ".join(problems[:SHOWN]) + more


def _all_broken(task: Task, loop: Loop) -> dict[str, str]:
    found = {
        str(item.path): str(item.reason)
        for dataset in (task.train_set, task.test_set)
        for item in getattr(dataset, "broken", ())
    }
    found |= loop.broken
    if loop.processes > 1:
        parts: list[Any] = [None] * loop.processes
        torch.distributed.all_gather_object(parts, found)
        found = {path: reason for part in parts for path, reason in part.items()}
    return dict(sorted(found.items()))


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _random_state(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
