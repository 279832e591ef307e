"""Parameter shapes of well-known networks, in the order of their ``parameters()``."""

from __future__ import annotations

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


def gpt2(width: int = 768, layers: int = 12, vocabulary: int = 50257, context: int = 1024) -> Shapes:
    """GPT-2 (Radford et al. 2019), small by default; the head is the token embedding, counted once.

    >>> from math import prod
    >>> len(gpt2()), sum(map(prod, gpt2()))
    (148, 124439808)
    """
    norm: Shapes = ((width,), (width,))
    block: Shapes = (
        *norm,
        *((width, 3 * width), (3 * width,), (width, width), (width,)),  # attention
        *norm,
        *((width, 4 * width), (4 * width,), (4 * width, width), (width,)),  # MLP
    )
    return ((vocabulary, width), (context, width), *block * layers, *norm)


def resnet18(width: int = 64, classes: int = 1000) -> Shapes:
    """ResNet-18 (He et al. 2016) as torchvision has it.

    >>> from math import prod
    >>> len(resnet18()), sum(map(prod, resnet18()))
    (62, 11689512)
    """
    found: list[Shape] = [(width, 3, 7, 7), (width,), (width,)]
    inputs = width
    for outputs in (width, 2 * width, 4 * width, 8 * width):
        for block in range(2):
            found += [(outputs, inputs, 3, 3), (outputs,), (outputs,)]
            found += [(outputs, outputs, 3, 3), (outputs,), (outputs,)]
            if block == 0 and inputs != outputs:
                found += [(outputs, inputs, 1, 1), (outputs,), (outputs,)]
            inputs = outputs
    return (*found, (classes, inputs), (classes,))
