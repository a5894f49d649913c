"""The homework's deliverable, made from finished runs: a notebook, and from it a PDF and a page.

``runs`` reads run folders and leaves out what is not whole. ``recurrences``, ``attention``,
``vision`` and ``sentiment`` are the four sections, each a list of ``cells``; ``surroundings`` says
how every number was made. ``notebook`` joins and executes them, ``document`` turns what came out
into one Markdown text, ``pdf`` and ``html`` set it, and ``make`` does all of it in order.
"""
