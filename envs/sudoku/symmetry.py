"""The symmetries of Sudoku, drawn from keys, and the canonical form of a puzzle.

A symmetry renames the digits, shuffles the bands, the rows inside each band, the stacks and the columns inside each
stack, and transposes the board where its boxes are square: 9! * 2 * 1296 * 1296 of them at 9x9.

Which split a puzzle belongs to, the same for all its symmetric images.

A number that no symmetry changes is hashed; `puzzle.hash_in_split` says which hashes belong to which split.

Boards from 8x8 on are split by their *solution*, so that no solution grid of one split is, turned, relabelled or
rearranged, one of the other: any two rows map the digits onto each other by a permutation, whose cycle lengths stay
what they are; the same for columns. Boards of 4x4 and 6x6 have too few kinds of solution and are split by clues and
solution together: marks on the cells, refined by what rows, columns, boxes and digits they share.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import below_kernel, compiled, mix_kernel, plain, shuffle_kernel
from hrm_gym.envs.puzzle import Grid, hash_in_split, mix_many
from hrm_gym.envs.sudoku.boxes import Box, board, usual_box
from hrm_gym.envs.sudoku.solver import copy_kernel, solve


@cache
def line_orders(bands: int, breadth: int) -> NDArray[np.int64]:
    """All orders of the rows of a board that keep bands together.

    Args:
        bands: number of bands.
        breadth: rows of a band.

    Returns:
        (bands! * breadth!**bands, bands*breadth) int64; the first is the identity.
    """
    inside = list(permutations(range(breadth)))
    rows = [
        [band * breadth + row for band, order in zip(outer, orders, strict=True) for row in order]
        for outer in permutations(range(bands))
        for orders in product(inside, repeat=bands)
    ]
    return np.array(rows, dtype=np.int64)


@compiled
def _nth_order(number, bands, breadth, order):
    """Fill `order` (bands*breadth,) with row `number` of `line_orders(bands, breadth)`; 16x16 has 8 million."""
    inside = 1
    for factor in range(2, breadth + 1):
        inside *= factor
    outer = number
    for _ in range(bands):
        outer //= inside
    _nth_permutation(outer, bands, order)
    for place in range(bands - 1, -1, -1):  # from the back: the bands' own numbers are read before they are replaced
        first = order[place] * breadth
        lines = order[place * breadth : (place + 1) * breadth]
        _nth_permutation(number % inside, breadth, lines)
        lines += first
        number //= inside


@compiled
def _nth_permutation(number, length, items):
    """Fill the first `length` places of `items` with permutation `number`, in lexicographic order, of 0..length - 1."""
    for place in range(length):
        items[place] = place
    for place in range(length - 1):
        block = 1
        for factor in range(2, length - place):
            block *= factor
        chosen = place + number // block % (length - place)
        item = items[chosen]
        for other in range(chosen, place, -1):
            items[other] = items[other - 1]
        items[place] = item


@compiled
def symmetry_kernel(key, rows, columns, cells, tokens):
    """Fill `cells` (n*n,) int64 and `tokens` (n+2,) uint8 with the symmetry of a uint64 key."""
    size = rows * columns
    state = np.array([mix_kernel(key)])
    lines, places = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    _nth_order(below_kernel(state, _order_count(columns, rows)), columns, rows, lines)
    _nth_order(below_kernel(state, _order_count(rows, columns)), rows, columns, places)
    transposed = rows == columns and below_kernel(state, 2) == 1
    for row in range(size):
        for column in range(size):
            here = column * size + row if transposed else row * size + column
            cells[here] = lines[row] * size + places[column]
    for token in range(size + 2):
        tokens[token] = token
    shuffle_kernel(state, tokens[2:])


@compiled
def _order_count(bands, breadth):
    """How many orders of lines keep bands together."""
    count = 1
    for band in range(1, bands + 1):
        count *= band
        for factor in range(2, breadth + 1):
            count *= factor
    return count


def random_symmetry(box: Box, key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """A symmetry drawn from a key, uniform over all of them.

    Args:
        box: (rows, columns) of a box.
        key: 64-bit integer.

    Returns:
        (n*n,) int64 `cells` and (n+2,) uint8 `tokens`: the image of a grid is `tokens[grid.ravel()[cells]]`. Tokens 0
        and 1 stay as they are.
    """
    rows, columns = board(box).box
    size = rows * columns
    cells, tokens = np.empty(size * size, dtype=np.int64), np.empty(size + 2, dtype=np.uint8)
    symmetry_kernel(np.uint64(key), rows, columns, cells, tokens)
    return cells, tokens


@compiled
def turn_kernel(stored, numbers, keys, rows, columns, images):
    """Fill `images` (N, K, n*n) with K grids each, under the symmetry of each of N keys.

    Args:
        stored: (M, K, n*n) uint8 grids that belong together (a puzzle and its solution).
        numbers: (N,) int64, which of them.
        keys: (N,) uint64.
        rows: of a box.
        columns: of a box.
        images: (N, K, n*n) uint8, to be filled.
    """
    size = rows * columns
    cells, tokens = np.empty(size * size, dtype=np.int64), np.empty(size + 2, dtype=np.uint8)
    for i in range(len(keys)):
        symmetry_kernel(keys[i], rows, columns, cells, tokens)
        for k in range(images.shape[1]):
            for cell in range(size * size):
                images[i, k, cell] = tokens[stored[numbers[i], k, cells[cell]]]


@compiled
def _place_image(grid, clues, lines, columns, breadth, best, image):
    """The least image of a solution that has row lines[0] first, columns in this order, and 2, 3, 4, ... as first row.

    Gives up as soon as the image is greater than `best` (2, n, n); returns whether `image` (2, n, n) is less.
    """
    size = len(grid)
    names = np.empty(size + 2, dtype=np.uint8)
    for place in range(size):
        names[grid[lines[0], columns[place]]] = place + 2
    undecided = True
    for row in range(size):
        # Rows come in the order of their first cells, inside the band; bands in the order of their first rows.
        if row % breadth == 0:
            _next_band(grid, names, columns[0], breadth, lines, row)
        for place in range(size):
            image[0, row, place] = names[grid[lines[row], columns[place]]]
            if undecided and image[0, row, place] != best[0, row, place]:
                if image[0, row, place] > best[0, row, place]:
                    return False
                undecided = False
    for row in range(size):
        for place in range(size):
            token = clues[lines[row], columns[place]]
            image[1, row, place] = names[token] if token >= 2 else token
            if undecided and image[1, row, place] != best[1, row, place]:
                if image[1, row, place] > best[1, row, place]:
                    return False
                undecided = False
    return not undecided


@compiled
def _next_band(grid, names, column, breadth, lines, at):
    """Sort the rows of the band at lines[at:] by their cell in `column`, after picking the band that comes first."""
    size = len(grid)
    if at > 0:
        least, first = size + 2, at
        for row in range(at, size):
            if names[grid[lines[row], column]] < least:
                least, first = names[grid[lines[row], column]], row // breadth * breadth
        for k in range(breadth):
            lines[at + k], lines[first + k] = lines[first + k], lines[at + k]
    for one in range(at, at + breadth):
        for other in range(one + 1, at + breadth):
            if names[grid[lines[other], column]] < names[grid[lines[one], column]]:
                lines[one], lines[other] = lines[other], lines[one]


@compiled
def canonical_kernel(clues, solution, breadth, column_orders, best):
    """Lower `best` (2, n, n) to the least image of (solution, clues) without transposition, if that is less."""
    size = len(solution)
    image = np.empty_like(best)
    lines = np.empty(size, dtype=np.int64)
    for top in range(size):
        for k in range(len(column_orders)):
            band = top // breadth * breadth
            for row in range(size):
                lines[row] = row
            for row in range(breadth):  # the band of row `top` first, and that row first in it
                lines[row], lines[band + row] = lines[band + row], lines[row]
            lines[0], lines[top - band] = lines[top - band], lines[0]
            if _place_image(solution, clues, lines, column_orders[k], breadth, best, image):
                copy_kernel(image.reshape(-1), best.reshape(-1))


def canonical(clues: Grid, box: Box | None = None) -> Grid:
    """The canonical form of a puzzle: the same for all its symmetric images, another for any other puzzle.

    It is the image whose solution, read row after row, comes first; among those, the one whose clues do. On boards
    of 16x16, which have too many images, it is the first among those whose lines and digits are in the order of marks
    that no symmetry changes.

    Args:
        clues: (n, n) uint8 puzzle with exactly one solution.
        box: (rows, columns) of a box.

    Returns:
        (n, n) uint8.

    Raises:
        ValueError: if the puzzle has no solution, or several.
    """
    rows, columns = box or usual_box(len(clues))
    solution = solve(clues, (rows, columns))
    if solution is None:
        raise ValueError("expected a puzzle with exactly one solution, got one with none or several")
    if len(clues) > 9:
        return _least_of_marked(clues, solution, rows, columns)
    best = np.full((2, *clues.shape), 255, dtype=np.uint8)
    orders = line_orders(rows, columns)
    canonical_kernel(plain(clues), solution, rows, orders, best)
    if rows == columns:
        canonical_kernel(plain(clues.T), plain(solution.T), rows, orders, best)
    return best[1]


Marks = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]
"""Of the rows, the columns and the digits of a board, (n,) each."""


def _least_of_marked(clues: Grid, solution: Grid, rows: int, columns: int) -> Grid:
    """The canonical form by refinement: marks of lines and digits that depend on the puzzle alone tell them apart.

    Where some stay equal, each of them in turn gets a mark of its own, and the least image is taken.
    """
    zeros = np.zeros(len(clues), np.uint64)
    turns = [(clues, solution, rows, columns)]
    if rows == columns:
        turns.append((clues.T, solution.T, columns, rows))
    images: list[tuple[bytes, bytes]] = []
    for turned, solved, high, wide in turns:
        _marked_images(turned >= 2, solved.astype(np.int64) - 2, (high, wide), (zeros, zeros, zeros), images)
    return np.frombuffer(min(images)[1], np.uint8).reshape(clues.shape).copy()


def _marked_images(
    given: NDArray[np.bool_],
    digits: NDArray[np.int64],
    box: Box,
    marks: Marks,
    images: list[tuple[bytes, bytes]],
) -> None:
    """Add the images (solution, clues) that the refined `marks` allow; `digits` (n, n) are those of the solution."""
    marks = _refined(given, digits, box, marks)
    for kind, own in enumerate(marks):
        different, counts = np.unique(own, return_counts=True)
        if (counts > 1).any():
            for one in np.flatnonzero(own == different[np.argmax(counts > 1)]):
                changed = own.copy()
                changed[one] += np.uint64(1)
                _marked_images(given, digits, box, (*marks[:kind], changed, *marks[kind + 1 :]), images)  # type: ignore[arg-type]
            return
    lines = [
        np.lexsort((own, np.repeat(np.add.reduceat(mix_many(own), np.arange(0, len(own), side)), side)))
        for own, side in zip(marks, box, strict=False)
    ]
    names = np.argsort(np.argsort(marks[2])) + 2
    image = names[digits[lines[0]][:, lines[1]]].astype(np.uint8)
    shown = np.where(given[lines[0]][:, lines[1]], image, np.uint8(1))
    images.append((image.tobytes(), shown.tobytes()))


def _refined(given: NDArray[np.bool_], digits: NDArray[np.int64], box: Box, marks: Marks) -> Marks:
    """Marks after some rounds in which lines and digits hear of the cells they have, and cells of theirs."""
    of_row, of_column, of_digit = marks
    for _ in range(4):
        cells = mix_many(of_row)[:, None] + mix_many(of_column ^ _COLUMN)[None] + mix_many(of_digit ^ _DIGIT)[digits]
        cells = mix_many(cells + given.astype(np.uint64) * _BOX)
        heard = [cells.sum(1), cells.sum(0)]
        for k, side in enumerate(box):  # and of their band, or stack
            together = np.add.reduceat(mix_many(heard[k]), np.arange(0, len(digits), side))
            heard[k] = heard[k] + mix_many(np.repeat(together, side))
        of_row, of_column = mix_many(of_row + heard[0]), mix_many(of_column + heard[1])
        of_digit = mix_many(of_digit + np.array([cells[digits == digit].sum() for digit in range(len(digits))]))
    return of_row, of_column, of_digit


BY_SOLUTION = 8
"""From this side length on the solution alone decides."""

_ROUNDS = 3
_ROW, _COLUMN, _BOX, _DIGIT = (np.uint64(0x9FB21C651E98DF25 * (i + 1) % 2**64) for i in range(4))


@compiled
def _cycle_hash(grid, one, other, turned):
    """A hash of the cycle lengths of the permutation between two rows (or two columns, if `turned`) of a solution."""
    size = len(grid)
    follow = np.zeros(size + 2, dtype=np.int64)
    for place in range(size):
        if turned:
            follow[grid[place, one]] = grid[place, other]
        else:
            follow[grid[one, place]] = grid[other, place]
    total = np.uint64(0)
    for digit in range(2, size + 2):
        length, at = np.uint64(0), digit
        while follow[at]:
            follow[at], at = 0, follow[at]
            length += np.uint64(1)
        if length:
            total += mix_kernel(length)
    return mix_kernel(total)


@compiled
def _lines_hash(grid, breadth, turned):
    """A hash of a solution's rows (columns, if `turned`) that no order of them inside and among bands changes."""
    size = len(grid)
    pairs = np.zeros(size, dtype=np.uint64)
    for one in range(size):
        for other in range(one):
            cycles = _cycle_hash(grid, one, other, turned)
            if one // breadth == other // breadth:
                cycles = mix_kernel(cycles)
            pairs[one] += cycles
            pairs[other] += cycles
    total = np.uint64(0)
    for band in range(0, size, breadth):
        inside = np.uint64(0)
        for line in range(band, band + breadth):
            inside += mix_kernel(pairs[line])
        total += mix_kernel(inside)
    return total


@compiled
def _solution_hash(solution, rows, columns):
    """A hash of a solution that no symmetry changes."""
    by_rows, by_columns = _lines_hash(solution, rows, np.int64(0)), _lines_hash(solution, columns, np.int64(1))
    if rows != columns:
        by_rows ^= _ROW
    return mix_kernel(mix_kernel(by_rows) + mix_kernel(by_columns))


@compiled
def _puzzle_hash(clues, solution, rows, columns):
    """A hash of clues and solution that no symmetry changes."""
    size = len(clues)
    marks = np.empty((size, size), dtype=np.uint64)
    for row in range(size):
        for column in range(size):
            marks[row, column] = clues[row, column] >= 2
    sums = np.empty((6, size), dtype=np.uint64)
    total = np.uint64(0)
    for _ in range(_ROUNDS):
        sums[:] = 0
        for row in range(size):
            for column in range(size):
                mixed = mix_kernel(marks[row, column])
                box = row // rows * rows + column // columns
                places = (row, column, row // rows, column // columns, box, solution[row, column] - 2)
                for kind in range(6):
                    sums[kind, places[kind]] += mixed
        total = np.uint64(0)
        for row in range(size):
            for column in range(size):
                across = mix_kernel(sums[0, row] + mix_kernel(sums[2, row // rows]))
                down = mix_kernel(sums[1, column] + mix_kernel(sums[3, column // columns]))
                if rows != columns:
                    across *= _ROW
                box = row // rows * rows + column // columns
                digit = solution[row, column] - 2
                around = across + down + (sums[4, box] ^ _BOX) * _COLUMN + (sums[5, digit] ^ _DIGIT) * _ROW
                marks[row, column] = mix_kernel(marks[row, column] ^ mix_kernel(around))
                total += marks[row, column]
    return mix_kernel(total)


@compiled
def in_split_kernel(clues, solution, rows, columns, split):
    """Whether a puzzle belongs to SPLITS[split]; `clues` do not matter from side BY_SOLUTION on."""
    if split == 2:
        return True
    if len(solution) >= BY_SOLUTION:
        value = _solution_hash(solution, rows, columns)
    else:
        value = _puzzle_hash(clues, solution, rows, columns)
    return hash_in_split(value, split)


def class_of(clues: Grid, solution: Grid, box: Box) -> int:
    """The hash that decides on the split, of all symmetric images: of the solution, on small boards with the clues."""
    if len(solution) >= BY_SOLUTION:
        return int(_solution_hash(plain(solution), *box))
    return int(_puzzle_hash(plain(clues), plain(solution), *box))
