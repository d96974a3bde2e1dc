from concurrent.futures import ThreadPoolExecutor

import torch

from recsys.compat.threads import compute_alone


def test_only_the_thread_itself_computes_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1, initializer=compute_alone) as pool:
            pool.submit(torch.ones(1_000_000).sum).result()
            assert pool.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
