"""Patient data beside the image: slides judged by what the model saw and by what is known."""
