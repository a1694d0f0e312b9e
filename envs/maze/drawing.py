"""How a maze looks: dark walls, light ways, a blue path that runs through the cells, and red where a rule is broken."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pygame

from hrm_gym.envs.maze.rules import MAZE, MOVES
from hrm_gym.envs.maze.tokens import GOAL, OPEN, PAD, PATH, START, WALL
from hrm_gym.envs.puzzle import Grid, Thought
from hrm_gym.envs.rendering.colours import BLUE, GREEN, GROUND, ORANGE, PAPER, RED, ROSE, SLATE, WHITE, Colour

_FINE = 4
"""Tiles are painted this many times larger and scaled down: antialiasing for every shape."""


def draw_maze(surface: pygame.Surface, clues: Grid, answer: Grid, thought: Thought | None) -> None:
    """Paint the maze in the middle of `surface`.

    Args:
        surface: where to; the cells are as large as fit.
        clues: (H, W) uint8, the maze.
        answer: (H, W) uint8, the answer, or the walk as move mode shows it.
        thought: its answer is dotted in where the board does not show it yet.
    """
    height, width = clues.shape
    cell = min(surface.get_width() // width, surface.get_height() // height)
    left, top = (surface.get_width() - cell * width) // 2, (surface.get_height() - cell * height) // 2
    surface.blit(_maze_layer(clues.tobytes(), clues.shape, cell, surface.get_masks()), (left, top))
    walker = _walker(clues, answer)
    wrong = answer == PAD if walker else MAZE.violations(clues[None], answer[None])[0]
    blits = []
    for row, column in np.argwhere(wrong).tolist():
        blits.append((_cell_tile(cell, ROSE), (left + column * cell, top + row * cell)))
    drawn = (answer == PATH) | (wrong & (answer != WALL) & (answer != OPEN)) | (answer == PAD)
    ends = drawn | (answer == START) | (answer == GOAL)
    for row, column in np.argwhere(ends).tolist():
        mask = _joints(ends, drawn, row, column)
        colour = RED if wrong[row, column] else BLUE
        tile = _path_tile(cell, mask, colour)
        if drawn[row, column] or mask:
            blits.append((tile, (left + column * cell, top + row * cell)))
    for row, column in np.argwhere((answer != clues) & (answer == WALL)).tolist():
        blits.append((_cross(cell), (left + column * cell, top + row * cell)))
    if thought is not None:
        for row, column in np.argwhere((thought.answer == PATH) & (answer == OPEN)).tolist():
            blits.append((_dot(cell), (left + column * cell, top + row * cell)))
    for token in (START, GOAL):
        row, column = divmod(int(np.argmax(clues == token)), width)
        blits.append((_badge(cell, token), (left + column * cell, top + row * cell)))
    if walker:
        blits.append((_figure(cell), (left + walker[1] * cell, top + walker[0] * cell)))
    surface.blits(blits, doreturn=False)


def _walker(clues: Grid, answer: Grid) -> tuple[int, int] | None:
    """The walker's cell if `answer` is a walk as move mode shows it, not finished."""
    places = np.flatnonzero(answer == START)
    if len(places) != 1 or answer.flat[np.argmax(clues == START)] not in (PATH, PAD):
        return None
    row, column = divmod(int(places[0]), clues.shape[1])
    return row, column


def _joints(ends: Grid, drawn: Grid, row: int, column: int) -> int:
    """Bit k set if the path runs on in direction k (up, right, down, left); start and goal join path cells only."""
    mask = 0
    for k, (down, right) in enumerate(MOVES):
        r, c = row + down, column + right
        inside = 0 <= r < ends.shape[0] and 0 <= c < ends.shape[1]
        if inside and ends[r, c] and (drawn[row, column] or drawn[r, c]):
            mask |= 1 << k
    return mask


@lru_cache(maxsize=64)
def _maze_layer(clues: bytes, shape: tuple[int, int], cell: int, masks: tuple[int, ...]) -> pygame.Surface:
    """Walls and ways, without anything that changes; pixels laid out as `masks` say, for a fast copy."""
    grid = np.frombuffer(clues, dtype=np.uint8).reshape(shape)
    layer = pygame.Surface((shape[1] * cell, shape[0] * cell), 0, 24, (*masks[:3], 0))
    layer.fill(GROUND)
    for (row, column), token in np.ndenumerate(grid):
        layer.blit(_cell_tile(cell, SLATE if token == WALL else PAPER), (column * cell, row * cell))
    return layer


def _canvas(cell: int) -> tuple[pygame.Surface, int]:
    side = cell * _FINE
    return pygame.Surface((side, side), pygame.SRCALPHA), side


def _fine(canvas: pygame.Surface, cell: int) -> pygame.Surface:
    return pygame.transform.smoothscale(canvas, (cell, cell))


@lru_cache(maxsize=256)
def _cell_tile(cell: int, colour: Colour) -> pygame.Surface:
    """A rounded square with a hair of ground around it."""
    canvas, side = _canvas(cell)
    canvas.fill((*colour, 0))
    gap = max(_FINE // 2, side // 40)
    pygame.draw.rect(canvas, colour, (gap, gap, side - 2 * gap, side - 2 * gap), border_radius=side // 6)
    return _fine(canvas, cell)


@lru_cache(maxsize=4096)
def _path_tile(cell: int, mask: int, colour: Colour) -> pygame.Surface:
    """A round-ended pipe from the middle of the cell to every edge in `mask`."""
    canvas, side = _canvas(cell)
    canvas.fill((*colour, 0))
    half, thick = side // 2, side * 2 // 5
    pygame.draw.circle(canvas, colour, (half, half), thick // 2)
    for k, (down, right) in enumerate(MOVES):
        if mask >> k & 1:
            across = pygame.Rect(0, 0, thick if right == 0 else half, thick if down == 0 else half)
            across.center = (half + right * half // 2, half + down * half // 2)
            pygame.draw.rect(canvas, colour, across)
    return _fine(canvas, cell)


@lru_cache(maxsize=64)
def _dot(cell: int) -> pygame.Surface:
    """A planned path cell that is not on the board yet."""
    canvas, side = _canvas(cell)
    canvas.fill((*BLUE, 0))
    pygame.draw.circle(canvas, BLUE, (side // 2, side // 2), side // 8)
    return _fine(canvas, cell)


@lru_cache(maxsize=64)
def _cross(cell: int) -> pygame.Surface:
    """A wall drawn where the maze has none."""
    canvas, side = _canvas(cell)
    canvas.fill((*RED, 0))
    low, high = side * 3 // 10, side * 7 // 10
    for begin, end in (((low, low), (high, high)), ((low, high), (high, low))):
        pygame.draw.line(canvas, RED, begin, end, side // 8)
    return _fine(canvas, cell)


@lru_cache(maxsize=64)
def _badge(cell: int, token: int) -> pygame.Surface:
    """Start or goal: a coloured square with its letter."""
    colour, letter = (GREEN, "S") if token == START else (ORANGE, "G")
    canvas, side = _canvas(cell)
    canvas.fill((*colour, 0))
    gap = max(_FINE // 2, side // 12)
    pygame.draw.rect(canvas, colour, (gap, gap, side - 2 * gap, side - 2 * gap), border_radius=side // 4)
    words = pygame.font.Font(None, side).render(letter, True, WHITE)
    box = words.get_bounding_rect()
    canvas.blit(words.subsurface(box), ((side - box.width) // 2, (side - box.height) // 2))
    return _fine(canvas, cell)


@lru_cache(maxsize=64)
def _figure(cell: int) -> pygame.Surface:
    """The walker: a white-ringed disc."""
    canvas, side = _canvas(cell)
    canvas.fill((*WHITE, 0))
    half = side // 2
    pygame.draw.circle(canvas, WHITE, (half, half), side * 2 // 5)
    pygame.draw.circle(canvas, BLUE, (half, half), side * 3 // 10)
    return _fine(canvas, cell)
