"""Which piece of a study's work comes next: new settings, or a paused trial's next epochs.

`curve_model.py` forecasts, `freeze_thaw.py` decides.
"""
