"""What to run: the schema of a search space, and one file per experiment.

A space is a YAML file; `load_space` turns it into grid points, each with the cell that it asks for. Imports
`trainers` for what a cell is, and nothing of how a sweep runs.
"""

from search_spaces.expansion import GridPoint
from search_spaces.space import Space, load_space, load_space_text, read_stored_space
from search_spaces.space_files import list_spaces, space_file

__all__ = [
    "GridPoint",
    "Space",
    "list_spaces",
    "load_space",
    "load_space_text",
    "read_stored_space",
    "space_file",
]
