"""Search spaces and architectures: pure Python, without torch."""

from nassearch.space.architecture import Architecture as Architecture
from nassearch.space.architecture import Block as Block
from nassearch.space.architecture import BlockSpec as BlockSpec
from nassearch.space.architecture import Patches as Patches
from nassearch.space.architecture import Stage as Stage
from nassearch.space.lowering import Slot as Slot
from nassearch.space.lowering import block_specs as block_specs
from nassearch.space.lowering import lower as lower
from nassearch.space.lowering import slots as slots
from nassearch.space.reference import Reference as Reference
from nassearch.space.reference import is_reference as is_reference
from nassearch.space.reference import list_references as list_references
from nassearch.space.reference import load_reference as load_reference
from nassearch.space.search_space import SearchSpace as SearchSpace
