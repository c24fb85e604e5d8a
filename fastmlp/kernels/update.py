"""The update of a network's parameters from their gradients, by any rule of ``rules``.

A rule is applied to consecutive parameters, once all gradients are in memory and can be clipped
together. Momentum alone may also be applied to a tile in its registers: see ``matmul``. Other rules
took longer tile by tile than in a phase of their own (Adam 1.18 and 1.12 times as long as momentum
on 784-512-512-10 at batch 128, 1.65 and 1.36 at batch 32; Zen 4, two threads).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import threads
from ._geometry import ROWS_OF_A_TERM, norm_terms
from ._jit import entry, inline
from ._memory import Place, load_numbers, load_partial, store_partial
from ._own import call_address
from ._simd import sum_lanes, vector_lanes, where
from ._sync import barrier, share
from ._vocabulary import RARE, WHOLE, Vocabulary, needs
from .packing import ceil_div, panel_count, panel_start
from .rules import FACTORS, LAST_FREQUENT, OWN, RULES, momentum_rule

# Numbers that are adjusted, updated and averaged before the next ones: they stay in the first-level
# cache.
PIECE = 2048


class Learnt(NamedTuple):
    """Parameters and all that is kept per parameter, buffers of one layout."""

    parameters: np.ndarray
    velocities: np.ndarray  # the rule's first state
    squares: np.ndarray  # its second one; empty where the rule has none
    averages: np.ndarray  # running means of the parameters; empty where none are kept


class Adjustment(NamedTuple):
    """What becomes of a gradient before the rule sees it: scaled, clipped, scaled again."""

    scale: float
    limit: float  # clips to -limit ... limit; infinite for none
    shrink: float  # what clipping by the norm leaves of it; 1 for all


class UpdateOptions(NamedTuple):
    """What of an update stays the same from step to step."""

    rule: int  # a code
    limit: float  # of a gradient's size; infinite for none
    norm_limit: float  # of the norm of all gradients; infinite for none
    average: float  # share of the new parameters in their running means
    address: int = 0  # of the code of a user's own rule


class Instructions(NamedTuple):
    """How a network is updated from its gradients."""

    options: UpdateOptions
    factors: np.ndarray  # (groups * FACTORS,)
    scale: float  # of the gradients
    norm_scale: float  # of those of batch norm
    terms: np.ndarray  # float64, room for those of a norm: see ``_geometry.norm_terms``
    staged: np.ndarray  # for every part ``PIECE`` gradients
    vocabulary: Vocabulary


def _over_stretch(rule, states):
    """Compile a rule over consecutive parameters; gradients are multiplied by ``scale`` first."""

    @inline
    def update(learnt, at, count, gradients, scale, factors):
        lanes = vector_lanes(gradients.array)
        for i in range(0, count, lanes):
            here, live = at + i, min(lanes, count - i)
            gradient = scale * load_partial(gradients.array, gradients.at + i, live)
            parameter = load_partial(learnt.parameters, here, live)
            first = load_partial(learnt.velocities, here, live)
            if states == 2:
                second = load_partial(learnt.squares, here, live)
                parameter, first, second = rule(gradient, (parameter, first, second), factors)
                store_partial(learnt.squares, here, live, second)
            else:
                parameter, first = rule(gradient, (parameter, first), factors)
            store_partial(learnt.parameters, here, live, parameter)
            store_partial(learnt.velocities, here, live, first)

    return update


def _choice_from(code):
    """A function that applies a rule whose code is at least ``code``."""
    rule = RULES[code]
    update = _over_stretch(rule.function, rule.states)
    others = _choice_from(code + 1) if code + 1 < len(RULES) else update
    known = needs(RARE) if code == LAST_FREQUENT + 1 else inline

    @known
    def choose(instructions, learnt, at, count, gradients, scale, factors):
        if instructions.options.rule == code:
            update(learnt, at, count, gradients, scale, factors)
        else:
            others(instructions, learnt, at, count, gradients, scale, factors)

    @inline
    def choose_last(instructions, learnt, at, count, gradients, scale, factors):
        update(learnt, at, count, gradients, scale, factors)

    return choose if code + 1 < len(RULES) else choose_last


_apply_rule = _choice_from(0)
apply_momentum = _over_stretch(momentum_rule, 1)


@needs(RARE)
def _apply_own(instructions, learnt, at, count, gradients, factors):
    """A user's rule over consecutive parameters; places of gradients and of factors."""
    second = learnt.squares.size > 0
    states = Place(learnt.velocities, at), Place(learnt.squares, at if second else 0)
    places = Place(learnt.parameters, at), *states, gradients, factors
    call_address(instructions.options.address, places, (count,))


@inline
def _clipped(gradient, adjustment):
    gradient, limit = adjustment.scale * gradient, adjustment.limit
    return where(gradient > limit, limit, where(gradient < -limit, -limit, gradient))


@inline
def _adjust(target, gradients, count, adjustment):
    """Consecutive numbers at a place = those at place ``gradients``, scaled and clipped."""
    lanes = vector_lanes(gradients.array)
    for i in range(0, count, lanes):
        live = min(lanes, count - i)
        gradient = load_partial(gradients.array, gradients.at + i, live)
        store_partial(
            target.array, target.at + i, live, adjustment.shrink * _clipped(gradient, adjustment)
        )


@inline
def _average(learnt, at, count, share_of_new):
    """Move the running means of consecutive parameters."""
    lanes = vector_lanes(learnt.averages)
    for i in range(0, count, lanes):
        here, live = at + i, min(lanes, count - i)
        mean = load_partial(learnt.averages, here, live)
        new = load_partial(learnt.parameters, here, live)
        store_partial(learnt.averages, here, live, mean + share_of_new * (new - mean))


@inline
def _update_range(team, learnt, gradients, run, group, adjustment, instructions):
    """Update this part's share of a run of parameters of one group: (start, size)."""
    start, size = run
    lanes = vector_lanes(gradients)
    number = gradients.dtype.type
    options = instructions.options
    own = options.rule == OWN
    factors_at = Place(instructions.factors, group * FACTORS)
    factors = load_numbers(factors_at.array, factors_at.at, FACTORS)
    adjusted = Place(instructions.staged, team.part * PIECE)
    begin, end = share(team, ceil_div(size, lanes))
    end = min(end * lanes, size)
    for first in range(begin * lanes, end, PIECE):
        at, count = start + first, min(PIECE, end - first)
        source, scale = Place(gradients, at), adjustment.scale
        if options.limit < np.inf or adjustment.shrink != 1 or own:
            _adjust(adjusted, source, count, adjustment)
            source, scale = adjusted, number(1)
        if own:
            _apply_own(instructions, learnt, at, count, source, factors_at)
        else:
            _apply_rule(instructions, learnt, at, count, source, scale, factors)
        if learnt.averages.size > 0:
            _average(learnt, at, count, number(options.average))


@inline
def _sum_of_squares(gradients, row_step, rows, columns, adjustment):
    """Of the first ``columns`` numbers of some rows of gradients, once they are clipped."""
    lanes = vector_lanes(gradients.array)
    total = load_partial(gradients.array, gradients.at, 0)
    for row in range(rows):
        at = gradients.at + row * row_step
        for column in range(0, columns, lanes):
            live = min(lanes, columns - column)
            clipped = _clipped(load_partial(gradients.array, at + column, live), adjustment)
            total = total + clipped * clipped
    return sum_lanes(total)


@inline
def _weight_terms(team, terms, gradients, layer, packed, adjustment):
    """The squares of a layer's weights: a term for so many rows of a panel, in either layout."""
    lanes = vector_lanes(gradients)
    blocks, row_parts = ceil_div(layer.outputs, lanes), ceil_div(layer.inputs, ROWS_OF_A_TERM)
    padded_rows = ceil_div(layer.inputs, lanes) * lanes
    for number in range(*share(team, panel_count(blocks) * row_parts)):
        panel, first = number // row_parts, number % row_parts * ROWS_OF_A_TERM
        column = panel_start(blocks, panel) * lanes
        width = panel_start(blocks, panel + 1) * lanes - column
        rows = min(ROWS_OF_A_TERM, layer.inputs - first)
        columns = min(width, layer.outputs - column)
        if packed:
            at, step = layer.packed_w + column * padded_rows + first * width, width
        else:
            at, step = layer.flat_w + first * layer.outputs + column, layer.outputs
        terms[number] = _sum_of_squares(Place(gradients, at), step, rows, columns, adjustment)


@inline
def _squares_of_layer(team, terms, values, layer, packed, adjustment):
    """The sum of the squares of a layer's weights, or of their gradients.

    A barrier is needed before the terms are written again.
    """
    parts = panel_count(ceil_div(layer.outputs, vector_lanes(values)))
    count = parts * ceil_div(layer.inputs, ROWS_OF_A_TERM)
    _weight_terms(team, terms[:count], values, layer, packed, adjustment)
    barrier(team)
    total = 0.0
    for number in range(count):
        total += terms[number]
    return total


@inline
def squares_of_weights(team, table, parameters, terms):
    """The sum of the squares of all weights in panels, a float64; the same bits for any threads.

    terms : float64, room for those of a norm. Must come after a barrier, and ends with one.
    """
    number = parameters.dtype.type
    unchanged = Adjustment(number(1), number(np.inf), number(1))
    total = 0.0
    for index in range(len(table)):
        total += _squares_of_layer(team, terms, parameters, table[index], True, unchanged)
        barrier(team)
    return total


@inline
def _norm(team, table, gradients, packed, instructions, adjustments):
    """The norm of all gradients, clipped; the same bits in either layout, for any threads."""
    weights, norms, scales = adjustments
    total = 0.0
    for index in range(len(table)):
        layer = table[index]
        total += _squares_of_layer(team, instructions.terms, gradients, layer, packed, weights)
        vectors = (
            (layer.flat_b, layer.packed_b, layer.outputs, weights),
            (layer.flat_gamma, layer.packed_gamma, layer.outputs, norms),
            (layer.flat_beta, layer.packed_beta, layer.outputs, norms),
            (layer.flat_mix, layer.packed_mix, layer.outputs, weights),
            (layer.flat_embed, layer.packed_embed, layer.embed_numbers, weights),
            (layer.flat_scale, layer.packed_scale, layer.inputs, scales),
        )
        for flat_at, packed_at, width, adjustment in vectors:
            if flat_at >= 0:
                place = Place(gradients, packed_at if packed else flat_at)
                total += _sum_of_squares(place, 0, 1, width, adjustment)
        barrier(team)
    return math.sqrt(total)


@inline
def update_network(team, table, learnt, gradients, packed, instructions):
    """Update all parameters from their gradients, which stay as they are.

    packed : whether the buffers are laid out as ``kernels.network`` packs them, or flat
    Must come after a barrier; another is needed before anybody reads the parameters.
    Reference for the norm's clipping: Pascanu et al., "On the difficulty of training recurrent
    neural networks", 2013, with the 1e-6 of torch.nn.utils.clip_grad_norm_.
    """
    number = gradients.dtype.type
    limit = number(instructions.options.limit)
    weights = Adjustment(number(instructions.scale), limit, number(1))
    norms = Adjustment(number(instructions.norm_scale), limit, number(1))
    # Their gradients are those of weights that have been multiplied already.
    scales = Adjustment(number(1), limit, number(1))
    if instructions.options.norm_limit < np.inf:
        norm = _norm(team, table, gradients, packed, instructions, (weights, norms, scales))
        shrink = number(min(1.0, instructions.options.norm_limit / (norm + 1e-6)))
        weights = Adjustment(weights.scale, limit, shrink)
        norms = Adjustment(norms.scale, limit, shrink)
        scales = Adjustment(scales.scale, limit, shrink)
    lanes = vector_lanes(gradients)
    for index in range(len(table)):
        layer = table[index]
        inputs, outputs = layer.inputs, layer.outputs
        at_w, at_b, at_gamma = layer.flat_w, layer.flat_b, layer.flat_gamma
        if packed:
            inputs, outputs = ceil_div(inputs, lanes) * lanes, ceil_div(outputs, lanes) * lanes
            at_w, at_b, at_gamma = layer.packed_w, layer.packed_b, layer.packed_gamma
        run = at_w, inputs * outputs
        _update_range(team, learnt, gradients, run, layer.group_w, weights, instructions)
        if layer.flat_b >= 0:
            run = at_b, outputs
            _update_range(team, learnt, gradients, run, layer.group_b, weights, instructions)
        if layer.flat_gamma >= 0:
            # Beta follows gamma in either layout.
            run = at_gamma, 2 * outputs
            _update_range(team, learnt, gradients, run, layer.group_norm, norms, instructions)
        if layer.flat_mix >= 0:
            run = (layer.packed_mix if packed else layer.flat_mix), outputs
            _update_range(team, learnt, gradients, run, layer.group_mix, weights, instructions)
        if layer.flat_embed >= 0:
            run = (layer.packed_embed if packed else layer.flat_embed), layer.embed_numbers
            _update_range(team, learnt, gradients, run, layer.group_embed, weights, instructions)
        if layer.flat_scale >= 0:
            run = (layer.packed_scale if packed else layer.flat_scale), inputs
            _update_range(team, learnt, gradients, run, layer.group_scale, scales, instructions)


class FlatUpdate(NamedTuple):
    """How a network in flat buffers is updated."""

    options: UpdateOptions
    factors: np.ndarray  # (groups * FACTORS,) of the parameters' dtype
    norm_scale: float  # of the gradients of batch norm; others are taken as they are


def update_parameters(parameters, velocities, squares, averages, gradients, table, update):
    """Update all parameters of a network in place, and what is kept of each.

    parameters, velocities : (P,)    squares, averages : (P,), or empty where the update has none
    gradients : (P,), read    table : (L,) of dtype ``network.LAYER``    update : ``FlatUpdate``
    """
    options, factors, norm_scale = update
    learnt = Learnt(parameters, velocities, squares, averages)
    parts = threads.count_for(8 * gradients.size)
    terms = norm_terms(table) if options.norm_limit < np.inf else 0
    staged = np.empty(parts * PIECE, gradients.dtype)
    instructions = Instructions(options, factors, 1.0, norm_scale, np.empty(terms), staged, WHOLE)
    threads.run(_update_parameters, parts, (table, learnt, gradients, instructions))


@entry
def _update_parameters(team, table, learnt, gradients, instructions):
    update_network(team, table, learnt, gradients, False, instructions)
    barrier(team)
