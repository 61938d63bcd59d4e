"""What the Markdown of the repository has and the Markdown of the site lacks."""

import re
from html import escape

# The first line of a code block that is a file of the repository: ```python examples/back-end/app.py
NAMED_BLOCK = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)

# A diagram, which forges draw.
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What draws the diagrams of a page.
SCRIPTS = ["mermaid.tiny.js", "diagrams.js"]


def on_page_markdown(markdown, **_):
    """Shows the name of the file above the block, and leaves diagrams to the scripts."""
    markdown = DIAGRAM.sub(lambda block: f'<pre class="mermaid">{escape(block[1])}</pre>', markdown)
    return NAMED_BLOCK.sub(r"`\2`:\n\n```\1", markdown)


def on_page_content(html, page, **_):
    """Adds the scripts to pages with a diagram."""
    if '<pre class="mermaid">' in html:
        root = "../" * page.url.count("/")
        html += "".join(f'<script src="{root}{script}"></script>' for script in SCRIPTS)
    return html
