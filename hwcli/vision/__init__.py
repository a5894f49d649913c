"""Question 3: the Vision Transformer, Fashion-MNIST, and how its images are augmented."""
