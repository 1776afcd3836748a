"""A TorchScript file as an engine of LesionLens."""
