"""A model that somebody serves by OpenAI's chat completions: it is asked, and nothing of it is here."""
