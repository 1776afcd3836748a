"""The prompt network: points, scribbles and outlines as questions about one place."""
