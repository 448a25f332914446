"""What the model hears in speech: voices, phones, closed lips."""
