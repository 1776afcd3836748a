"""Ask an nnInteractive server through its own client, which raises `OSError` here if it fails."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import numpy as np
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession
from nnInteractive.inference.remote.remote_session import (
    ServerAtCapacityError,
    SessionExpiredError,
)
from numpy.typing import NDArray

from lesionlens.plugin import Points


class Server:
    """One session of a server.

    Parameters
    ----------
    address : str
        URL of the server.
    api_key : str, optional
        Its key, if it asks for one.

    Raises
    ------
    OSError
        The server does not respond, or refuses. `ConnectionResetError`: it has ended the session,
        as it does after ten idle minutes; a new one answers again. Every method raises them.
    """

    def __init__(self, address: str, api_key: str | None) -> None:
        with _failures():
            self._session = nnInteractiveRemoteInferenceSession(address, api_key=api_key)
        self._end = weakref.finalize(self, self._session.close)  # also when Python ends
        self._target = np.zeros((0, 0, 0), np.uint8)

    def show(self, image: NDArray[np.float32]) -> None:
        """Upload an image (I, J, K); later prompts refer to it."""
        self._target = np.zeros(image.shape, np.uint8)
        with _failures():
            self._session.set_image(image[None])
            self._session.set_target_buffer(self._target)

    def ask(
        self, outline: NDArray[np.bool_] | None, prompts: Sequence[tuple[Points, bool]]
    ) -> NDArray[np.bool_]:
        """Return the mask (I, J, K) for an outline and prompts.

        Parameters
        ----------
        outline : (I, J, K) bool, optional
            The outline to correct.
        prompts : sequence
            (N, 3) voxels each, and whether they are foreground: one voxel is a point, several are
            a scribble.
        """
        with _failures():
            self._session.reset_interactions()
            if outline is not None:
                self._session.add_initial_seg_interaction(outline.astype(np.uint8))
            for number, (voxels, foreground) in enumerate(prompts, 1):
                last = number == len(prompts)
                if len(voxels) == 1:
                    at = tuple(voxels[0].tolist())
                    self._session.add_point_interaction(at, foreground, run_prediction=last)
                else:
                    scribble = np.zeros(self._target.shape, np.uint8)
                    scribble[tuple(voxels.T)] = 1
                    self._session.add_scribble_interaction(
                        scribble, foreground, run_prediction=last
                    )
        return self._target > 0

    def close(self) -> None:
        """Free the session on the server."""
        self._end()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except SessionExpiredError as error:
        raise ConnectionResetError(str(error)) from error
    except httpx.HTTPStatusError as error:
        answer = error.response
        raise ConnectionError(f"status {answer.status_code}: {answer.text[:200]}") from error
    except (httpx.HTTPError, httpx.InvalidURL, ServerAtCapacityError) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    except (ValueError, KeyError) as error:
        raise ConnectionError(f"not the protocol of its client: {error!r}") from error
