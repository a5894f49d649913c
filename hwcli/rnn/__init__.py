"""Question 1: what a recurrent network with explicit weights computes, exactly and with proof."""
