import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def _as_it_was():
    """A study asks PyTorch for one thread and deterministic sums; other tests do not."""
    threads, is_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(is_deterministic)
