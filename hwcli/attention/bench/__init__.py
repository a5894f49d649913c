"""The bench of question 2: cases, gate, time, memory, and the tables and pictures of a run."""
