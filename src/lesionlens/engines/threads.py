"""How many threads of a CPU this process computes with."""

from __future__ import annotations


def use_threads(count: int | None, engine: str) -> None:
    """Let registration and an engine that is loaded next compute with so many threads.

    Results are the same with any number. numpy takes what the environment says when it is loaded.

    Parameters
    ----------
    count : int or None
        None leaves it to each library.
    engine : str
        As `Lens` takes it: "onnx" needs no torch, which is not loaded for it.
    """
    if count is None:
        return
    import SimpleITK as sitk  # noqa: PLC0415  (heavy, and only here)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    if engine == "onnx":
        from lesionlens.network.onnx_session import OnnxSession  # noqa: PLC0415

        OnnxSession.threads = count
    else:
        import torch  # noqa: PLC0415

        torch.set_num_threads(count)
