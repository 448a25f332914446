"""Portrait, speech, style and tracked video to what the motion model and the renderer consume."""
