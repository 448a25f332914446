"""The web page: ``moda web``. Pages hold no logic of their own; they call the pipeline."""
