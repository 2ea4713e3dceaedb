"""What is compared: one attention, and where its authors' code computes the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor, nn

import whatwhere as ww


def call(theirs: nn.Module, x: Tensor) -> Tensor:
    """Return what their module makes of a map."""
    y: Tensor = theirs(x)
    return y


def load_by_official_names(ours: ww.Attention, tensors: Mapping[str, Tensor]) -> None:
    """Load their tensors, by the names that they have there, into ours."""
    ours.load_official(tensors)


@dataclass(frozen=True)
class Case:
    """One attention beside one class of its official code, or of an installed package that is known to equal it.

    Attributes:
        name: the attention.
        repository: ``owner/name`` on GitHub, or the name of an installed package.
        path: the file of the class in it; in a package, the module by its full name.
        build: makes their module, given their file as a module.
        options: of ours, where the defaults are not what is compared.
        channels: C.
        size: of the maps; the batch has 4 images.
        apply: what their module is called with; one that returns gates is multiplied here.
        load: puts tensors under their names (weights, gradients, statistics) into ours.
        beside: further files of the repository, which ``path`` imports as modules of its own package, in the order in
            which they can be executed.
        without_gradient: our names of parameters whose gradient is only rounding, such as a bias in front of a batch
            normalisation in training, or one of all that a softmax is of.
        edits: text → text to put in its place, in their file, such as an import of what is not installed.
        imports: modules that their file may import, by name, in place of what is not installed.
        title: what distinguishes it from other cases of the same attention.
    """

    name: str
    repository: str
    path: str
    build: Callable[[ModuleType], nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 64
    size: tuple[int, int] = (14, 12)
    apply: Callable[[nn.Module, Tensor], Tensor] = call
    load: Callable[[ww.Attention, Mapping[str, Tensor]], None] = load_by_official_names
    beside: tuple[str, ...] = ()
    without_gradient: tuple[str, ...] = ()
    edits: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, ModuleType] = field(default_factory=dict)
    title: str = ""

    @property
    def installed(self) -> bool:
        """Whether it is compared with an installed package."""
        return "/" not in self.repository

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the repository that are executed, in this order; none for a package."""
        return () if self.installed else (*self.beside, self.path)
