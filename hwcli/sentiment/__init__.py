"""Question 4: film reviews, a pretrained encoder, and what is trained on top of it."""
