"""Sentences that every trained classifier is asked about."""

HOMEWORK_SENTENCES = ("Justice League is terrible. I hated it.", "Avengers was great!!")
"""Question 4a of the homework."""

# Cases that sentiment classifiers get wrong; the label is a reader's, None where there is none.
PROBES: tuple[tuple[str, str, str | None], ...] = (
    ("negation", "This is not a good film.", "negative"),
    ("negation", "There is nothing bad about it, not one weak scene.", "positive"),
    ("negation", "I can't say that I didn't enjoy it.", "positive"),
    ("neutral", "The film runs for ninety minutes and is set in Oslo.", None),
    ("mixed", "The acting is superb, yet the story bored me to tears.", "negative"),
    ("mixed", "It starts slowly and looks cheap, but I loved every minute of it.", "positive"),
    ("short", "Superb.", "positive"),
    ("short", "Awful.", "negative"),
    ("short", "", None),
)
