"""Which equations of a traced function need which: sets of them, in order."""

from collections.abc import Iterable

from jax.extend.core import Literal


def _variables(atoms: Iterable) -> list:
    return list(dict.fromkeys(atom for atom in atoms if not isinstance(atom, Literal)))


def made_by(equations) -> set:
    """Return the variables that these equations give."""
    return {variable for each in equations for variable in each.outvars}


def without(equations, others) -> list:
    """Return the equations that are none of the others."""
    left_out = set(map(id, others))
    return [each for each in equations if id(each) not in left_out]


def following_from(equations, sources) -> list:
    """Return the equations that read nothing but these, or what follows from them."""
    known, found = set(sources), []
    for each in equations:
        if known.issuperset(_variables(each.invars)):
            found.append(each)
            known.update(each.outvars)
    return found


def touched_by(equations, sources) -> list:
    """Return the equations that read one of these, or of what was made of them."""
    touched, found = set(sources), []
    for each in equations:
        if touched.intersection(_variables(each.invars)):
            found.append(each)
            touched.update(each.outvars)
    return found


def leading_to(equations, results) -> list:
    """Return the equations without which these cannot be had."""
    needed, found = set(_variables(results)), []
    for each in reversed(equations):
        if needed.intersection(each.outvars):
            found.append(each)
            needed.update(_variables(each.invars))
    return found[::-1]


def taken_by(equations, results, *, but_for: set) -> list:
    """Return what these equations and results read that others made."""
    taken = _variables([*(atom for each in equations for atom in each.invars), *results])
    own = made_by(equations) | but_for
    return [variable for variable in taken if variable not in own]
