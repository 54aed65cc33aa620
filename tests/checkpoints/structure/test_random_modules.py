"""Random modules: with a sample, predictions and traces are the module's own; never verified and wrong."""

import pytest
import torch

from gatescope.checkpoints.structure.interpret import AmbiguousSample
from gatescope.errors import InvalidInput
from tests.bulk import number
from tests.checkpoints.structure.random_module import Plan, RandomModule

pytestmark = pytest.mark.random
SEEDS = range(number(8, 200))
AT_LEAST = 0.85  # of the modules are verified by their sample
OTHER_INPUTS = ((2, 2, 10, 1.5), (3, 1, 17, 1.5), (4, 4, 1, 1.5), (5, 3, 7, 8.0), (6, 3, 9, 0.2))  # seed … scale
outcomes: dict[int, str] = {}


@pytest.fixture(params=SEEDS)
def module(request):
    return RandomModule(Plan.draw(request.param))


def sample_of(module):
    inputs = module.inputs(1, 4, 10, 2.0)
    with torch.no_grad():
        return {"inputs": inputs, "expected": module(inputs)}


def imported(bring, module, **more):
    """What was imported, or why nothing was."""
    try:
        return bring(module, **more), None
    except InvalidInput as error:
        return None, error


def test_with_a_sample_predictions_are_those_of_the_module(bring, module):
    brought, error = imported(bring, module, sample=sample_of(module))
    if error is not None:
        outcomes[module.plan.seed] = str(error)
        if isinstance(error, AmbiguousSample):
            assert error.inputs is not None
        else:
            assert "none gives what the sample expects" in str(error)
            assert module.plan.count > 1
        return
    outcomes[module.plan.seed] = "verified" if brought.model.verified else "no prediction"
    if brought.model.verified is None:
        assert brought.manifest.heads == ()
        return
    assert brought.model.verified.max_error <= 1e-5
    for seed, batch, time, scale in OTHER_INPUTS:
        inputs = module.inputs(seed, batch, time, scale)
        with torch.no_grad():
            expected = module(inputs)
        values = brought.ask([*inputs]).prediction.values
        assert values.shape == expected.shape
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-5 * float(expected.abs().max()) + 1e-9)
    inputs = module.inputs(7, 1, 6)
    fed = {name: given[0] for name, given in module.fed(inputs).items()}
    brought.traces({name: module.get_submodule(name) for name in module.lstms}, inputs[0], fed)


def test_without_a_sample_nothing_counts_as_verified(bring, module):
    brought, error = imported(bring, module)
    if error is not None:
        assert "--prefix, or give a --sample" in str(error)
        return
    assert brought.model.verified is None
    assert brought.imported.verified is None
    assert "--sample" in brought.notes or not module.behind


def test_most_random_modules_are_verified():
    verified = sum(outcome == "verified" for outcome in outcomes.values())
    assert verified >= AT_LEAST * len(outcomes), outcomes
