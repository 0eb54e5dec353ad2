import tempfile
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

# Hypothesis keeps what it finds out about the sources even without a database of examples.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))
