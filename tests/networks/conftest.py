import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Small networks are faster on one thread, above all where several test processes share a machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
