"""Rules around the model: rest, blinks, gaze, emotions, amounts, frame rates."""
