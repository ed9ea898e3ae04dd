"""Language models that the method runs on."""
