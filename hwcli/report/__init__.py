"""The hand-in, made from finished runs: a notebook, and from it a PDF and a page.

``runs`` finds run folders and leaves out damaged ones. ``recurrences``, ``attention``, ``vision``
and ``sentiment`` fill the templates in ``sections/`` with what the runs found;
``front_and_back_matter`` says whose runs they are and how they were made. ``notebook`` joins the
cells, ``merge`` keeps what the author typed, ``document`` turns the executed notebook into one
Markdown text, ``pdf`` and ``html`` set it, and ``make`` does all of it in order.
"""
