"""How an ARC puzzle looks: demonstrations in a row, below them the test input and the board of the answer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.arc.layout import (
    ANSWER,
    ARROW,
    BOARD,
    CAPTION,
    EXAMPLES,
    INPUT,
    Rect,
    answer_panel,
    arrange,
    in_panel,
)
from hrm_gym.envs.arc.tokens import BLACK, END, PAD, Colours, crop
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought
from hrm_gym.envs.rendering.colours import CARD, DIM, GROUND, PAPER, SLATE, Colour
from hrm_gym.envs.rendering.lettering import lettering

PALETTE: tuple[Colour, ...] = (
    (0x00, 0x00, 0x00), (0x00, 0x74, 0xD9), (0xFF, 0x41, 0x36), (0x2E, 0xCC, 0x40), (0xFF, 0xDC, 0x00),
    (0xAA, 0xAA, 0xAA), (0xF0, 0x12, 0xBE), (0xFF, 0x85, 0x1B), (0x7F, 0xDB, 0xFF), (0x87, 0x0C, 0x25),
)  # fmt: skip
"""The colours 0..9 as the ARC testing interface has them."""

_EMPTY, _LINE = (22, 31, 51), (72, 78, 90)
"""The answer's board where nothing is drawn; the lines between the cells of a grid."""

_FINE = 4
"""Tiles are painted this many times larger and scaled down: antialiasing for every shape."""

Masks = tuple[int, int, int, int]


def draw_arc(surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
    """Paint a puzzle and the answer to it.

    Args:
        surface: where to, of the size `layout.BOARD`.
        puzzle: its demonstrations and clues are shown.
        answer: (C, C) uint8 board; colours outside the grid that is read off it are dim, end cells are slate.
        thought: a cell in which the agent would rather have another colour shows that one as a small square.
    """
    examples = puzzle.extras["demonstrations"][: puzzle.extras["pairs"].item()].tobytes()
    canvas = len(answer)
    surface.blit(_scene(puzzle.clues.tobytes(), examples, canvas, surface.get_masks()), (0, 0))
    left, top, cell = answer_panel(canvas)
    height, width = crop(answer).shape
    if answer.any():
        surface.blit(_enlarged(_answer_colours(answer, height, width), cell), (left, top))
        surface.blit(_lattice(canvas, cell, height, width), (left, top))
    size = f"{height}x{width}" if height else "no grid yet"
    words = lettering(size, 20, DIM)
    surface.blit(words, (ANSWER[0] + ANSWER[2] - 16 - words.get_width(), ANSWER[1] + 11))
    if thought is not None:
        surface.blits(_mind(answer, thought, (left, top), cell), doreturn=False)


# ---- the answer ----


def _tints() -> NDArray[np.uint8]:
    """(24, 3) colour of every token inside the grid, then outside it."""
    inside = np.array([_EMPTY, SLATE, *PALETTE], dtype=np.float64)
    outside = 0.3 * inside + 0.7 * np.array(_EMPTY)
    outside[[PAD, END]] = _EMPTY, SLATE
    return np.concatenate([inside, outside]).astype(np.uint8)


_TINTS = _tints()


def _answer_colours(answer: Grid, height: int, width: int) -> NDArray[np.uint8]:
    """(C, C, 3) colours of the answer's cells, dim outside its grid."""
    rows = answer + np.uint8(len(PALETTE) + BLACK)
    rows[:height, :width] = answer[:height, :width]
    return _TINTS[rows]


@lru_cache(maxsize=128)
def _lattice(canvas: int, cell: int, height: int, width: int) -> pygame.Surface:
    """Lines between cells, clear in the grid and faint around it, and a frame around the grid."""
    side = canvas * cell
    lattice = pygame.Surface((side, side), pygame.SRCALPHA)
    _lines(lattice, (0, 0, side, side), cell, (*_LINE, 70))
    if height:
        area = (0, 0, width * cell, height * cell)
        _lines(lattice, area, cell, (*_LINE, 255))
        pygame.draw.rect(lattice, (*PAPER, 255), area, 1)
    return lattice


def _mind(
    answer: Grid, thought: Thought, corner: tuple[int, int], cell: int
) -> list[tuple[pygame.Surface, tuple[int, int]]]:
    """Tiles, with their places, for what the agent would rather have on the board."""
    tiles: list[tuple[pygame.Surface, tuple[int, int]]] = []
    for row, column in np.argwhere((thought.answer != answer) & (thought.answer >= BLACK)).tolist():
        place = (corner[0] + column * cell, corner[1] + row * cell)
        tiles.append((_wish(cell, int(thought.answer[row, column])), place))
    return tiles


@lru_cache(maxsize=64)
def _wish(cell: int, token: int) -> pygame.Surface:
    """A small square of a colour that is not on the board yet."""
    tile = pygame.Surface((cell, cell), pygame.SRCALPHA)
    inset = round(cell * 0.28)
    area = (inset, inset, cell - 2 * inset, cell - 2 * inset)
    pygame.draw.rect(tile, (*PALETTE[token - BLACK], 200), area)
    pygame.draw.rect(tile, (*DIM, 130), area, 1)
    return tile


# ---- what stays ----


@lru_cache(maxsize=64)
def _scene(clues: bytes, examples: bytes, canvas: int, masks: Masks) -> pygame.Surface:
    """Everything but the answer; pixels laid out as `masks` say, for a fast copy."""
    scene = pygame.Surface(BOARD, 0, 24, (*masks[:3], 0))
    scene.fill(GROUND)
    for card, title in ((EXAMPLES, "Demonstrations"), (INPUT, "Test input"), (ANSWER, "Answer")):
        pygame.draw.rect(scene, CARD, card, border_radius=10)
        scene.blit(lettering(title, 22, PAPER), (card[0] + 16, card[1] + 10))
    boards = np.frombuffer(examples, dtype=np.uint8).reshape(-1, 2, canvas, canvas)
    _draw_examples(scene, [(crop(first), crop(second)) for first, second in boards], canvas)
    _draw_input(scene, crop(np.frombuffer(clues, dtype=np.uint8).reshape(canvas, canvas)), canvas)
    left, top, cell = answer_panel(canvas)
    area = (left, top, canvas * cell, canvas * cell)
    pygame.draw.rect(scene, _EMPTY, area)
    scene.blit(_lattice(canvas, cell, 0, 0), (left, top))
    pygame.draw.rect(scene, SLATE, (left - 1, top - 1, area[2] + 2, area[3] + 2), 1)
    return scene


def _draw_input(scene: pygame.Surface, grid: Colours, canvas: int) -> None:
    left, top, cell = in_panel(grid.shape, canvas)
    _draw_grid(scene, grid, (left, top), cell)
    words = lettering(_size(grid), 20, DIM)
    scene.blit(words, (INPUT[0] + INPUT[2] - 16 - words.get_width(), INPUT[1] + 11))
    middle = (INPUT[0] + INPUT[2] + ANSWER[0]) // 2
    pygame.draw.circle(scene, GROUND, (middle, INPUT[1] + INPUT[3] // 2), 26)
    _arrow(scene, (middle, INPUT[1] + INPUT[3] // 2), 26, DIM)


def _draw_examples(scene: pygame.Surface, pairs: list[tuple[Colours, Colours]], canvas: int) -> None:
    words = lettering(str(len(pairs)), 20, DIM)
    scene.blit(words, (EXAMPLES[0] + EXAMPLES[2] - 16 - words.get_width(), EXAMPLES[1] + 11))
    if not pairs:
        return
    slots = arrange([(first.shape, second.shape) for first, second in pairs], canvas)
    for index, pair in enumerate(pairs):
        _draw_pair(scene, pair, slots.slot(index, len(pairs)), slots.cell, index + 1)


def _draw_pair(scene: pygame.Surface, pair: tuple[Colours, Colours], slot: Rect, cell: float, number: int) -> None:
    """Input, arrow and output in the middle of `slot`, with a line of text below them."""
    left, top, width, height = slot
    sizes = [(round(grid.shape[1] * cell), round(grid.shape[0] * cell)) for grid in pair]
    tallest = max(size[1] for size in sizes)
    x = left + (width - sizes[0][0] - ARROW - sizes[1][0]) // 2
    middle = top + (height - CAPTION) // 2
    for grid, size in zip(pair, sizes, strict=True):
        _draw_grid(scene, grid, (x, middle - size[1] // 2), cell)
        x += size[0] + ARROW
    _arrow(scene, (x - ARROW - sizes[1][0] - ARROW // 2, middle), 18, DIM)
    words = lettering(f"{number}:  {_size(pair[0])} to {_size(pair[1])}", 18, DIM)
    scene.blit(words, (left + (width - words.get_width()) // 2, middle + (tallest + 1) // 2 + 5))


def _draw_grid(scene: pygame.Surface, grid: Colours, corner: tuple[int, int], cell: float) -> None:
    """A grid of colours with thin lines, and a frame around it."""
    picture = _enlarged(np.array(PALETTE, dtype=np.uint8)[grid], cell)
    width, height = picture.get_size()
    scene.blit(picture, corner)
    if cell >= 5:
        _lines(scene, (*corner, width, height), int(cell), _LINE)
    pygame.draw.rect(scene, _LINE, (corner[0] - 1, corner[1] - 1, width + 2, height + 2), 1)


def _enlarged(colours: NDArray[np.uint8], cell: float) -> pygame.Surface:
    """(h, w, 3) colours as a picture, `cell` pixels to each."""
    height, width = colours.shape[:2]
    small = pygame.image.frombuffer(colours.tobytes(), (width, height), "RGB")
    return pygame.transform.scale(small, (round(width * cell), round(height * cell)))


def _lines(surface: pygame.Surface, area: Rect, cell: int, colour: tuple[int, ...]) -> None:
    """The lines between the cells of a grid."""
    left, top, width, height = area
    for x in range(left + cell, left + width, cell):
        pygame.draw.line(surface, colour, (x, top), (x, top + height - 1))
    for y in range(top + cell, top + height, cell):
        pygame.draw.line(surface, colour, (left, y), (left + width - 1, y))


def _arrow(scene: pygame.Surface, middle: tuple[int, int], length: int, colour: Colour) -> None:
    """An arrow to the right."""
    side = length * _FINE
    tile = pygame.Surface((side, side), pygame.SRCALPHA)
    tile.fill((*colour, 0))
    half, thick = side // 2, max(_FINE, side // 9)
    pygame.draw.rect(tile, colour, (side // 12, half - thick // 2, side * 3 // 5, thick))
    pygame.draw.polygon(
        tile, colour, [(side * 11 // 20, side // 4), (side * 19 // 20, half), (side * 11 // 20, side * 3 // 4)]
    )
    scene.blit(pygame.transform.smoothscale(tile, (length, length)), (middle[0] - length // 2, middle[1] - length // 2))


def _size(grid: Colours) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"
