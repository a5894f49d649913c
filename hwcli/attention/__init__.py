"""Question 2: softmax and linear attention as pure functions, and what they cost."""
