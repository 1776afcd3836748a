"""The fit of what kinds of lesions look like: which features it may use."""

from lesionlens.analysis.findings.kinds import key_of, load_models


def test_each_shipped_model_has_features_that_its_sequences_show(script):
    with script("kinds.fit") as fit:
        models = load_models()
        every = {name for model in models.values() for name in model.names}
        for subset in fit.SUBSETS:
            shown = {name for name in every if fit.shown_by(name, subset)}
            assert set(models[key_of(subset)].names) <= shown
            absent = [s.value for s in fit.MrSequence if s not in subset]
            assert not any(name.startswith(f"{value}.") for name in shown for value in absent)
        assert all(fit.shown_by(name, fit.SUBSETS[0]) for name in every)
