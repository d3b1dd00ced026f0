"""The status page that the endpoint serves at `/`: a document in, HTML, a style, a script and an icon out.

The server renders all of it, so that it is complete without scripts; the script asks for the page again every few
seconds and puts what is new into place. There is one renderer and one place that escapes.
"""

from endpoint.page.document import NOTHING, Cell, Column, Document, Notice, Table, Tile, Tone
from endpoint.page.serving import status_pages

__all__ = ["NOTHING", "Cell", "Column", "Document", "Notice", "Table", "Tile", "Tone", "status_pages"]
