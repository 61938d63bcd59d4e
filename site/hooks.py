"""What the Markdown of the repository has and the Markdown of the site lacks."""

import re

# The first line of a code block that is a file of the repository: ```python examples/back-end/app.py
NAMED_BLOCK = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)


def on_page_markdown(markdown, **_):
    """Shows the name of the file above the block."""
    return NAMED_BLOCK.sub(r"`\2`:\n\n```\1", markdown)
